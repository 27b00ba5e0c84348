"""What stands before and behind a norm: the sum over ranks, the addition to the residual stream, the
linear layer.

PyTorch's operators one by one, for a compiler to fuse as it can; with "gemv" and a single row, not
too wide, kernels of ours: one that adds and normalises and one for the linear layer, SwiGLU behind it
included, or one for all of it. On several ranks "push" is one kernel that sums, adds and normalises.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.add_norm import add_norm
from inference_benchmark.kernels.gemv import gemv, gemv_swiglu
from inference_benchmark.kernels.norm_gemv import MAX_FEATURES, norm_gemv, norm_swiglu
from inference_benchmark.kernels.push_all_reduce import is_served as is_pushed
from inference_benchmark.model.linear import LinearWeights, make_linear, number_of_rows
from inference_benchmark.model.norm import rms_norm
from inference_benchmark.model.weight_format import WeightFormat
from inference_benchmark.parallel.collectives import make_all_reduce, push_all_reduce_norm

# update [..., in], residual [..., in], norm weight [in], weights of a matrix
# -> result [..., out], residual + update
NormedLinear = Callable[[Tensor, Tensor, Tensor, LinearWeights], tuple[Tensor, Tensor]]

# Up to so many features one kernel adds, normalises and multiplies; each of its programs does the
# first two again. That saves microseconds a layer, and costs half as many instructions again per
# weight: a large model runs into a GPU's power limit at batch 1 and pays with its clock. On an H200
# a step of Llama 3.1 8B took 4.08 ms with it and 3.93 without, although 30 ms of nothing but its
# layers are faster with it; a layer of Llama 3.2 1B, far from that limit, takes 40 us instead of 46.
ONE_KERNEL_UP_TO = 2048


# update [..., n], residual [..., n], norm weight [n], and if it is one matrix what is read next
# -> rms_norm(residual + update), residual + update
AddNorm = Callable[[Tensor, Tensor, Tensor, LinearWeights | None], tuple[Tensor, Tensor]]


def make_add_norm(eps: float, all_reduce: str = "none", of_one_row: bool = False) -> AddNorm:
    """
    all_reduce: how the ranks' updates are summed before, as in KernelConfig.
    of_one_row: with our kernel for that.
    """
    reduce = make_all_reduce(all_reduce)

    def plain(update, residual, norm_weight, next_weights=None):
        total = residual + reduce(update)
        return rms_norm(total, norm_weight, eps), total

    def one_row(update, residual, norm_weight, next_weights=None):
        return add_norm(reduce(update), residual, norm_weight, eps)

    def pushed(update, residual, norm_weight, next_weights=None):
        if not is_pushed(update):
            return unpushed(update, residual, norm_weight)
        matrix = None if isinstance(next_weights, tuple) else next_weights
        return push_all_reduce_norm(update, residual, norm_weight, eps, matrix)

    unpushed = one_row if of_one_row else plain
    return pushed if all_reduce == "push" else unpushed


def make_normed_linear(
    backend: str, eps: float, weight_format: WeightFormat | None = None, all_reduce: str = "none"
) -> NormedLinear:
    """The linear layer of rms_norm(residual + update); backend and format as for make_linear,
    all_reduce as for make_add_norm."""
    linear, norm = make_linear(backend, weight_format), make_add_norm(eps, all_reduce)

    def normed_linear(update, residual, norm_weight, weights):
        normalised, total = norm(update, residual, norm_weight, weights)
        return linear(normalised, weights), total

    if not _has_kernels(backend, weight_format):
        return normed_linear
    return _with_kernels(normed_linear, norm_gemv, gemv, eps, all_reduce)


def make_normed_swiglu(
    backend: str, eps: float, weight_format: WeightFormat | None = None, all_reduce: str = "none"
) -> NormedLinear:
    """The same with silu(gate) * up behind it, the halves of what the linear layer makes."""
    linear, norm = make_linear(backend, weight_format), make_add_norm(eps, all_reduce)

    def normed_swiglu(update, residual, norm_weight, weights):
        normalised, total = norm(update, residual, norm_weight, weights)
        gate, up = linear(normalised, weights).chunk(2, dim=-1)
        return F.silu(gate) * up, total

    if not _has_kernels(backend, weight_format):
        return normed_swiglu
    return _with_kernels(normed_swiglu, norm_swiglu, gemv_swiglu, eps, all_reduce)


def _has_kernels(backend: str, weight_format: WeightFormat | None) -> bool:
    """Of plain matrices: those of formats have kernels of their own."""
    return backend == "gemv" and (weight_format is None or weight_format.module is None)


def _with_kernels(
    plain: NormedLinear, one_kernel: Callable, product: Callable, eps: float, all_reduce: str
) -> NormedLinear:
    """plain, but for a single row."""
    reduce, norm = make_all_reduce(all_reduce), make_add_norm(eps, all_reduce, of_one_row=True)

    def with_kernels(update, residual, norm_weight, weights):
        features = residual.shape[-1]
        if number_of_rows(residual) > 1 or features > MAX_FEATURES:
            return plain(update, residual, norm_weight, weights)
        if features <= ONE_KERNEL_UP_TO and all_reduce != "push":
            return one_kernel(reduce(update), residual, norm_weight, weights, eps)
        normalised, total = norm(update, residual, norm_weight, weights)
        return product(normalised, weights), total

    return with_kernels
