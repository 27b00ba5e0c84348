"""What stands before and behind a norm: the sum over ranks, the addition to the residual stream, the
linear layer.

PyTorch's operators one by one, for a compiler to fuse as it can; with "gemv" and few rows, not too
wide, kernels of ours: one that adds and normalises and one for the linear layer, SwiGLU behind it
included, of plain matrices and for a single row of this project's formats. On several ranks with
"push" one sums, adds and normalises.
"""

from collections.abc import Callable

from torch import Tensor

from inference_benchmark.kernels.add_norm import MAX_FEATURES, MAX_ROWS, add_norm
from inference_benchmark.kernels.push_all_reduce import is_served as is_pushed
from inference_benchmark.model.linear import (
    Linear,
    LinearWeights,
    make_linear,
    make_swiglu,
    number_of_rows,
)
from inference_benchmark.model.norm import rms_norm
from inference_benchmark.model.weight_format import WeightFormat
from inference_benchmark.parallel.collectives import make_all_reduce, push_all_reduce_norm

# update [..., n], residual [..., n], norm weight [n] -> rms_norm(total), total = residual + update
AddNorm = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# update [..., in], residual [..., in], norm weight [in], weights of a matrix
# -> result [..., out], residual + update
NormedLinear = Callable[[Tensor, Tensor, Tensor, LinearWeights], tuple[Tensor, Tensor]]


def make_add_norm(eps: float, backend: str = "torch", all_reduce: str = "none") -> AddNorm:
    """backend: "gemv" is our kernel for few rows, "torch" never.
    all_reduce: how the ranks' updates are summed before, as in KernelConfig."""
    reduce = make_all_reduce(all_reduce)

    def summed(update, residual, norm_weight):
        fits = number_of_rows(residual) <= MAX_ROWS and residual.shape[-1] <= MAX_FEATURES
        if backend == "gemv" and fits:
            return add_norm(reduce(update), residual, norm_weight, eps)
        total = residual + reduce(update)
        return rms_norm(total, norm_weight, eps), total

    def pushed(update, residual, norm_weight):
        if not is_pushed(update):
            return summed(update, residual, norm_weight)
        return push_all_reduce_norm(update, residual, norm_weight, eps)

    return pushed if all_reduce == "push" else summed


def make_normed_linear(
    backend: str, eps: float, weight_format: WeightFormat | None = None, all_reduce: str = "none"
) -> NormedLinear:
    """The linear layer of rms_norm(residual + update); backend and format as for make_linear,
    all_reduce as for make_add_norm."""
    return _behind(make_add_norm(eps, backend, all_reduce), make_linear(backend, weight_format))


def make_normed_swiglu(
    backend: str, eps: float, weight_format: WeightFormat | None = None, all_reduce: str = "none"
) -> NormedLinear:
    """The same with silu(gate) * up behind it, the halves of what the linear layer makes."""
    return _behind(make_add_norm(eps, backend, all_reduce), make_swiglu(backend, weight_format))


def _behind(add_norm: AddNorm, product: Linear) -> NormedLinear:
    def normed(update, residual, norm_weight, weights):
        normalised, total = add_norm(update, residual, norm_weight)
        return product(normalised, weights), total

    return normed
