"""Linear layers: PyTorch's, for a single row a kernel that does nothing but read the matrix, and
those of weight formats.

A linear layer's weights are its matrix, or in a format of several tensors a tuple of them.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType

from torch import Tensor, nn
from torch.nn import functional as F

from inference_benchmark.kernels.few_rows_linear import few_rows_linear, few_rows_swiglu
from inference_benchmark.kernels.gemv import gemv, gemv_swiglu
from inference_benchmark.kernels.row_swiglu import swiglu_of_halves
from inference_benchmark.model.kernel_choice import FEW_ROWS
from inference_benchmark.model.weight_format import QUANTIZED, WeightFormat

LinearWeights = Tensor | tuple[Tensor, ...]
Linear = Callable[[Tensor, LinearWeights], Tensor]


def make_linear(backend: str, weight_format: WeightFormat | None = None) -> Linear:
    """linear(x [..., in], weights of a matrix [out, in]) -> [..., out].

    backend: of plain matrices: "gemv" are our kernels where x has up to FEW_ROWS rows, "torch" never.
        Of formats of this project "gemv" is our kernel of that format, "torch" what PyTorch has for
        it, and "dequantized" the product with the matrix that the weights stand for.
    """

    def linear(x, weight):
        return F.linear(x, weight, None)

    def few_rows(x, weight):
        rows = number_of_rows(x)
        if rows == 1:
            return gemv(x, weight)
        return few_rows_linear(x, weight) if rows <= FEW_ROWS else F.linear(x, weight, None)

    if not is_plain(weight_format):
        return _format_linear(import_module(weight_format.module), backend)
    return few_rows if backend == "gemv" else linear


def make_swiglu(backend: str, weight_format: WeightFormat | None = None) -> Linear:
    """silu(gate) * up, the halves of what make_linear's function makes; with "gemv" by one kernel, of a
    single row where the format has it, of a few where there is no format."""
    linear = make_linear(backend, weight_format)
    of_row = _row_swiglu(weight_format) if backend == "gemv" else None
    few_rows = FEW_ROWS if backend == "gemv" and is_plain(weight_format) else 0

    def swiglu(x, weights):
        rows = number_of_rows(x)
        if of_row is not None and rows == 1:
            return of_row(x, weights)
        if rows <= few_rows:
            return few_rows_swiglu(x, weights)
        return swiglu_of_halves(linear(x, weights))

    return swiglu


def _row_swiglu(weight_format: WeightFormat | None) -> Linear | None:
    if is_plain(weight_format):
        return gemv_swiglu
    function = getattr(import_module(weight_format.module), "fast_swiglu", None)
    return function and (lambda x, weights: function(x, *weights))


def linear_functions() -> list[Callable]:
    """What this project's weight formats compute with: x, then the tensors of a matrix."""
    return list(dict.fromkeys(f for m in _modules() for f in (m.plain, m.fast)))


def swiglu_functions() -> list[Callable]:
    """The same of a single row, with SwiGLU behind it."""
    functions = (getattr(module, "fast_swiglu", None) for module in _modules())
    return list(dict.fromkeys(filter(None, functions)))


def _modules() -> list[ModuleType]:
    return [import_module(quantized.module) for quantized in QUANTIZED.values()]


def is_plain(weight_format: WeightFormat | None) -> bool:
    """Whether a linear layer's weights are its matrix."""
    return weight_format is None or weight_format.module is None


def _format_linear(module: ModuleType, backend: str) -> Linear:
    if not hasattr(module, "plain"):
        return module.linear

    def dequantized_linear(x, weights):
        return F.linear(x, module.dequantize(weights, x.shape[-1], x.dtype), None)

    def plain_linear(x, weights):
        return module.plain(x, *weights)

    def fast_linear(x, weights):
        return module.fast(x, *weights)

    return {"dequantized": dequantized_linear, "gemv": fast_linear}.get(backend, plain_linear)


def number_of_rows(x: Tensor) -> int:
    """Of x [..., columns]."""
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    return rows


class StoredTensors(nn.Module):
    """Weights in a format of several tensors."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        for index, tensor in enumerate(tensors):
            self.register_parameter(f"tensor_{index}", nn.Parameter(tensor, requires_grad=False))

    @property
    def weight(self) -> tuple[Tensor, ...]:
        return tuple(self.parameters())


class QuantizedLinear(StoredTensors):
    """A linear layer's weights."""

    def __init__(self, matrix: Tensor, weight_format: WeightFormat) -> None:
        """matrix [out, in] in the base type; it is not kept."""
        super().__init__(import_module(weight_format.module).quantize(matrix))
