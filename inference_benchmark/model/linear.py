"""Linear layers: PyTorch's, or for a single row a kernel that does nothing but read the matrix."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.gemv import gemv


def make_linear(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
    """linear(x [..., in], weight [out, in]) -> [..., out]; `gemv` where x is one row."""

    def linear(x, weight):
        return F.linear(x, weight, None)

    def one_row_linear(x, weight):
        return gemv(x, weight) if _rows(x) == 1 else F.linear(x, weight, None)

    return one_row_linear if backend == "gemv" else linear


def _rows(x: Tensor) -> int:
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    return rows
