"""SwiGLU: weights, sharding and a pure function of tensors. A mixture's experts are made of it too."""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from inference_benchmark.model.checkpoint_layout import Layout, Target
from inference_benchmark.model.feed_forward.dense_config import DenseFeedForward
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.linear import LinearWeights, make_linear, make_swiglu
from inference_benchmark.model.normed import make_normed_swiglu
from inference_benchmark.model.weight_format import WeightFormat
from inference_benchmark.parallel.sharding import RowRange, Shard, WeightShard, WeightShards

# hidden, weights, replayed choice of experts -> (update,) or (update, chosen experts)
FeedForwardFunction = Callable[[Tensor, tuple[Tensor, ...], Tensor | None], tuple[Tensor, ...]]
# update, residual, norm weight, weights, replayed choice of experts
# -> (update, residual + the update that went in), and of a mixture the chosen experts
NormedFunction = Callable[
    [Tensor, Tensor, Tensor, tuple[Tensor, ...], Tensor | None], tuple[Tensor, ...]
]


def modules(config: DenseFeedForward, hidden_size: int) -> dict[str, nn.Module]:
    """The weights, in the order in which the function takes them; gate and up in one matrix."""
    return swiglu_modules(config.intermediate_size, hidden_size)


def swiglu_modules(width: int, hidden_size: int, prefix: str = "") -> dict[str, nn.Module]:
    return {
        f"{prefix}gate_up_proj": nn.Linear(hidden_size, 2 * width, bias=False),
        f"{prefix}down_proj": nn.Linear(width, hidden_size, bias=False),
    }


def weight_shards(config: DenseFeedForward, shard: Shard) -> WeightShards:
    """config: that of the full model."""
    return swiglu_shards(shard.rows(config.intermediate_size))


def swiglu_shards(width: RowRange, prefix: str = "", first_dim: int = 0) -> WeightShards:
    """first_dim: that of a matrix's rows, where one tensor holds several matrices."""
    return {
        f"{prefix}gate_up_proj": WeightShard(first_dim, (width, width)),
        f"{prefix}down_proj": WeightShard(first_dim + 1, (width,)),
    }


def checkpoint_tensors(
    layer: nn.Module, config: DenseFeedForward, layout: Layout, shards: WeightShards
) -> Iterator[tuple[str, Target]]:
    weights = layer.gate_up_proj.weight, layer.down_proj.weight
    yield from swiglu_tensors(*weights, shards.get("gate_up_proj"), shards.get("down_proj"))


def swiglu_tensors(
    gate_up: Tensor, down: Tensor, gate_up_shard: WeightShard | None, down_shard: WeightShard | None
) -> Iterator[tuple[str, Target]]:
    gate, up = gate_up.chunk(2)
    gate_shard, up_shard = gate_up_shard.split() if gate_up_shard else (None, None)
    yield "gate_proj.weight", Target(gate, shard=gate_shard)
    yield "up_proj.weight", Target(up, shard=up_shard)
    yield "down_proj.weight", Target(down, shard=down_shard)


def make_function(
    config: DenseFeedForward, kernels: KernelConfig, weight_format: WeightFormat | None = None
) -> FeedForwardFunction:
    network = make_network(kernels.linear, weight_format)
    return lambda hidden, weights, chosen: (network(hidden, weights),)


def make_normed_function(
    config: DenseFeedForward,
    norm_eps: float,
    kernels: KernelConfig,
    weight_format: WeightFormat | None = None,
) -> NormedFunction:
    """The same of the residual stream: the addition to it and the norm come first."""
    normed_swiglu = make_normed_swiglu(kernels.linear, norm_eps, weight_format, kernels.all_reduce)
    linear = make_linear(kernels.linear, weight_format)

    def feed(update, residual, norm_weight, weights, chosen):
        gate_up_weight, down_weight = weights
        product, residual = normed_swiglu(update, residual, norm_weight, gate_up_weight)
        return linear(product, down_weight), residual

    return feed


def make_network(
    backend: str, weight_format: WeightFormat | None = None
) -> Callable[[Tensor, tuple[LinearWeights, LinearWeights]], Tensor]:
    """(hidden, weights of gate and up and of down) -> update; arguments as make_linear's."""
    swiglu, linear = make_swiglu(backend, weight_format), make_linear(backend, weight_format)

    def network(hidden, weights):
        gate_up_weight, down_weight = weights
        return linear(swiglu(hidden, gate_up_weight), down_weight)

    return network
