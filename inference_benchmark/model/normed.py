"""What stands before and behind a norm: the addition to the residual stream, the linear layer.

PyTorch's operators one by one, for a compiler to fuse as it can; with "gemv" and a single row, not
too wide, one kernel of ours for all of them, and for SwiGLU behind the linear layer.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.norm_gemv import MAX_FEATURES, norm_gemv, norm_swiglu
from inference_benchmark.model.linear import LinearWeights, make_linear, number_of_rows
from inference_benchmark.model.norm import rms_norm
from inference_benchmark.model.weight_format import WeightFormat

# update [..., in], residual [..., in], norm weight [in], weights of a matrix
# -> result [..., out], residual + update
NormedLinear = Callable[[Tensor, Tensor, Tensor, LinearWeights], tuple[Tensor, Tensor]]


def make_normed_linear(
    backend: str, eps: float, weight_format: WeightFormat | None = None
) -> NormedLinear:
    """The linear layer of rms_norm(residual + update); backend and format as for make_linear."""
    linear = make_linear(backend, weight_format)

    def normed_linear(update, residual, norm_weight, weights):
        total = residual + update
        return linear(rms_norm(total, norm_weight, eps), weights), total

    def one_row(update, residual, norm_weight, weights):
        if not _is_served(residual):
            return normed_linear(update, residual, norm_weight, weights)
        return norm_gemv(update, residual, norm_weight, weights, eps)

    return one_row if _has_kernel(backend, weight_format) else normed_linear


def make_normed_swiglu(
    backend: str, eps: float, weight_format: WeightFormat | None = None
) -> NormedLinear:
    """The same with silu(gate) * up behind it, the halves of what the linear layer makes."""
    normed_linear = make_normed_linear(backend, eps, weight_format)

    def normed_swiglu(update, residual, norm_weight, weights):
        product, total = normed_linear(update, residual, norm_weight, weights)
        gate, up = product.chunk(2, dim=-1)
        return F.silu(gate) * up, total

    def one_row(update, residual, norm_weight, weights):
        if not _is_served(residual):
            return normed_swiglu(update, residual, norm_weight, weights)
        return norm_swiglu(update, residual, norm_weight, weights, eps)

    return one_row if _has_kernel(backend, weight_format) else normed_swiglu


def _is_served(residual: Tensor) -> bool:
    return number_of_rows(residual) == 1 and residual.shape[-1] <= MAX_FEATURES


def _has_kernel(backend: str, weight_format: WeightFormat | None) -> bool:
    """Of plain matrices only: those of formats have kernels of their own."""
    return backend == "gemv" and (weight_format is None or weight_format.module is None)
