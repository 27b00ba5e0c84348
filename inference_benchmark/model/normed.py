"""What stands before and behind a norm: the sum over ranks, the addition to the residual stream, the
linear layer.

PyTorch's operators one by one, for a compiler to fuse as it can; with "gemv" and a single row, not
too wide, one kernel of ours for all of them, and for SwiGLU behind the linear layer. On several ranks
with "push" one for the sum, the addition and the norm.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.norm_gemv import MAX_FEATURES, norm_gemv, norm_swiglu
from inference_benchmark.kernels.push_all_reduce import is_served as is_pushed
from inference_benchmark.model.linear import LinearWeights, make_linear, number_of_rows
from inference_benchmark.model.norm import rms_norm
from inference_benchmark.model.weight_format import WeightFormat
from inference_benchmark.parallel.collectives import make_all_reduce, push_all_reduce_norm

# update [..., in], residual [..., in], norm weight [in], weights of a matrix
# -> result [..., out], residual + update
NormedLinear = Callable[[Tensor, Tensor, Tensor, LinearWeights], tuple[Tensor, Tensor]]


# update [..., n], residual [..., n], norm weight [n], and if it is one matrix what is read next
# -> rms_norm(residual + update), residual + update
AddNorm = Callable[[Tensor, Tensor, Tensor, LinearWeights | None], tuple[Tensor, Tensor]]


def make_add_norm(eps: float, all_reduce: str = "none") -> AddNorm:
    """all_reduce: how the ranks' updates are summed before, as in KernelConfig."""
    reduce = make_all_reduce(all_reduce)

    def add_norm(update, residual, norm_weight, next_weights=None):
        total = residual + reduce(update)
        return rms_norm(total, norm_weight, eps), total

    def pushed(update, residual, norm_weight, next_weights=None):
        if not is_pushed(update):
            return add_norm(update, residual, norm_weight)
        matrix = None if isinstance(next_weights, tuple) else next_weights
        return push_all_reduce_norm(update, residual, norm_weight, eps, matrix)

    return pushed if all_reduce == "push" else add_norm


def make_normed_linear(
    backend: str, eps: float, weight_format: WeightFormat | None = None, all_reduce: str = "none"
) -> NormedLinear:
    """The linear layer of rms_norm(residual + update); backend and format as for make_linear,
    all_reduce as for make_add_norm."""
    linear = make_linear(backend, weight_format)
    add_norm, reduce = make_add_norm(eps, all_reduce), make_all_reduce(all_reduce)

    def normed_linear(update, residual, norm_weight, weights):
        normed, total = add_norm(update, residual, norm_weight, weights)
        return linear(normed, weights), total

    def one_row(update, residual, norm_weight, weights):
        if not _is_served(residual):
            return normed_linear(update, residual, norm_weight, weights)
        return norm_gemv(reduce(update), residual, norm_weight, weights, eps)

    return one_row if _has_kernel(backend, weight_format, all_reduce) else normed_linear


def make_normed_swiglu(
    backend: str, eps: float, weight_format: WeightFormat | None = None, all_reduce: str = "none"
) -> NormedLinear:
    """The same with silu(gate) * up behind it, the halves of what the linear layer makes."""
    normed_linear = make_normed_linear(backend, eps, weight_format, all_reduce)
    reduce = make_all_reduce(all_reduce)

    def normed_swiglu(update, residual, norm_weight, weights):
        product, total = normed_linear(update, residual, norm_weight, weights)
        gate, up = product.chunk(2, dim=-1)
        return F.silu(gate) * up, total

    def one_row(update, residual, norm_weight, weights):
        if not _is_served(residual):
            return normed_swiglu(update, residual, norm_weight, weights)
        return norm_swiglu(reduce(update), residual, norm_weight, weights, eps)

    return one_row if _has_kernel(backend, weight_format, all_reduce) else normed_swiglu


def _is_served(residual: Tensor) -> bool:
    return number_of_rows(residual) == 1 and residual.shape[-1] <= MAX_FEATURES


def _has_kernel(backend: str, weight_format: WeightFormat | None, all_reduce: str) -> bool:
    """Of plain matrices only: those of formats have kernels of their own. What is pushed comes
    normalised."""
    is_plain = weight_format is None or weight_format.module is None
    return backend == "gemv" and is_plain and all_reduce != "push"
