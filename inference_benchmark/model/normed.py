"""What stands before and behind a norm: the addition to the residual stream, the linear layer.

PyTorch's operators one by one, for a compiler to fuse as it can; with "gemv" and a single row, not
too wide, kernels of ours: one that adds and normalises and one for the linear layer, SwiGLU behind it
included, or one for all of it.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.add_norm import add_norm
from inference_benchmark.kernels.gemv import gemv, gemv_swiglu
from inference_benchmark.kernels.norm_gemv import MAX_FEATURES, norm_gemv, norm_swiglu
from inference_benchmark.model.linear import LinearWeights, make_linear, number_of_rows
from inference_benchmark.model.norm import rms_norm
from inference_benchmark.model.weight_format import WeightFormat

# update [..., in], residual [..., in], norm weight [in], weights of a matrix
# -> result [..., out], residual + update
NormedLinear = Callable[[Tensor, Tensor, Tensor, LinearWeights], tuple[Tensor, Tensor]]

# Up to so many features one kernel adds, normalises and multiplies; each of its programs does the
# first two again. That saves microseconds a layer, and costs half as many instructions again per
# weight: a large model runs into a GPU's power limit at batch 1 and pays with its clock. On an H200
# a step of Llama 3.1 8B took 4.08 ms with it and 3.93 without, although 30 ms of nothing but its
# layers are faster with it; a layer of Llama 3.2 1B, far from that limit, takes 40 us instead of 46.
ONE_KERNEL_UP_TO = 2048


def make_normed_linear(
    backend: str, eps: float, weight_format: WeightFormat | None = None
) -> NormedLinear:
    """The linear layer of rms_norm(residual + update); backend and format as for make_linear."""
    linear = make_linear(backend, weight_format)

    def normed_linear(update, residual, norm_weight, weights):
        total = residual + update
        return linear(rms_norm(total, norm_weight, eps), weights), total

    return _with_kernels(normed_linear, norm_gemv, gemv, eps, backend, weight_format)


def make_normed_swiglu(
    backend: str, eps: float, weight_format: WeightFormat | None = None
) -> NormedLinear:
    """The same with silu(gate) * up behind it, the halves of what the linear layer makes."""
    linear = make_linear(backend, weight_format)

    def normed_swiglu(update, residual, norm_weight, weights):
        total = residual + update
        gate, up = linear(rms_norm(total, norm_weight, eps), weights).chunk(2, dim=-1)
        return F.silu(gate) * up, total

    return _with_kernels(normed_swiglu, norm_swiglu, gemv_swiglu, eps, backend, weight_format)


def _with_kernels(
    plain: NormedLinear,
    one_kernel: Callable,
    product: Callable,
    eps: float,
    backend: str,
    weight_format: WeightFormat | None,
) -> NormedLinear:
    """plain, but for a single row of plain matrices, where they are asked for: matrices of formats
    have kernels of their own."""

    def with_kernels(update, residual, norm_weight, weights):
        features = residual.shape[-1]
        if number_of_rows(residual) > 1 or features > MAX_FEATURES:
            return plain(update, residual, norm_weight, weights)
        if features <= ONE_KERNEL_UP_TO:
            return one_kernel(update, residual, norm_weight, weights, eps)
        normalised, total = add_norm(update, residual, norm_weight, eps)
        return product(normalised, weights), total

    has_kernels = backend == "gemv" and (weight_format is None or weight_format.module is None)
    return with_kernels if has_kernels else plain
