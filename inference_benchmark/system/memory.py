"""GPU memory: what a session will need, computed before anything is allocated, and what it took."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference_benchmark.models import ModelConfig, Precision

# CUDA context, cuBLAS workspaces, compiled kernels, CUDA graph pools and what fragmentation takes.
RUNTIME_BYTES = 1_500_000_000
# Channels and buffers of NCCL, where several GPUs share a model.
COMMUNICATION_BYTES = 500_000_000


@dataclass(frozen=True)
class Need:
    """Predicted bytes of a session. Weights exist once; each cell has a KV cache of its own."""

    weights: int
    kv_cache: int  # of all cells, and of the reference that checks them
    activations: int  # the largest prefill
    runtime: int = RUNTIME_BYTES
    cutting: int = 0  # the largest whole weight, while a rank's share is cut from it

    @property
    def total(self) -> int:
        return self.weights + max(self.kv_cache + self.activations, self.cutting) + self.runtime


def activation_bytes(
    config: ModelConfig, precision: Precision, batch_size: int, input_length: int
) -> int:
    """Live tensors at the widest point of a prefill: residual, update, hidden and one more of their
    size, and what the widest part of a layer holds; the logits of the last position, once in fp32.
    """
    widest = max(
        max(
            kind.attention.activation_values_per_token(),
            kind.feed_forward.activation_values_per_token(config.hidden_size),
        )
        for kind in config.layer_kinds
    )
    per_token = 4 * config.hidden_size + widest
    logits = batch_size * config.vocab_size * (precision.base_bytes + 4)
    return batch_size * input_length * per_token * precision.base_bytes + logits


def predict(
    cells: Sequence[tuple[ModelConfig, Precision, int]], input_length: int, output_length: int
) -> Need:
    """What cells of these models, precisions and batch sizes need together.

    Their models are depths of one: the weights of the deepest serve all. Those that an engine
    quantises stand beside them, for each cell anew.
    """
    config, precision, _ = max(cells, key=lambda cell: cell[0].num_layers)
    largest = max(batch_size for *_, batch_size in cells)
    cache_length = input_length + output_length
    caches = [
        model.kv_cache_bytes(precision, batch_size, cache_length)
        for model, _, batch_size in [*cells, (config, precision, largest)]  # last: the reference's
    ]
    quantised = [
        model.linear_bytes(own.weight_format)
        for model, own, _ in cells
        if own.weight_format.made_by_engine
    ]
    return Need(
        weights=config.weight_bytes(precision.stored) + sum(quantised),
        kv_cache=sum(caches),
        activations=activation_bytes(config, precision, largest, input_length),
        runtime=RUNTIME_BYTES + (COMMUNICATION_BYTES if config.tensor_parallel > 1 else 0),
        cutting=_cutting_bytes(config, precision),
    )


def _cutting_bytes(config: ModelConfig, precision: Precision) -> int:
    """Of a rank's share: before KV caches exist, one whole weight after the other is cut."""
    if config.tensor_parallel == 1:
        return 0
    kinds = [layer.feed_forward for layer in config.layer_kinds]
    gate_up = max(2 * getattr(kind, "num_experts", 1) * kind.intermediate_size for kind in kinds)
    largest = max(gate_up * config.hidden_size, config.head_parameters)
    return config.tensor_parallel * largest * precision.base_bytes


_ALLOCATED = ("current_allocated_bytes", "peak_allocated_bytes", "peak_reserved_bytes")


def combine(memories: list[dict]) -> dict:
    """What the allocators of several GPUs took: on the fullest one, and together."""
    if len(memories) < 2:
        return {}
    found = {}
    for name in _ALLOCATED:
        values = [memory.get(name) for memory in memories]
        known = None not in values
        found[name] = max(values) if known else None
        found[f"total_{name}"] = sum(values) if known else None
    retries = [memory.get("allocator_retries") for memory in memories]
    found["allocator_retries"] = None if None in retries else sum(retries)
    return found


def largest_fit(
    models: tuple[ModelConfig, ...],
    shallower: Iterable[tuple[str, tuple[ModelConfig, ...]]],
    precision: Precision,
    largest_batch: int,
    input_length: int,
    output_length: int,
    available: int,
) -> str:
    """What would fit instead, as advice: a smaller batch if that helps, else fewer layers.

    Args:
        models: what is to be measured, a cell each.
        shallower: what could be measured instead, (flags, models), the deepest first.
    """

    def fits(models: tuple[ModelConfig, ...], batch_size: int) -> bool:
        cells = [(model, precision, batch_size) for model in models]
        return predict(cells, input_length, output_length).total <= available

    batch_sizes = range(1, largest_batch)
    smaller = bisect_left(batch_sizes, True, key=lambda size: not fits(models, size))
    if smaller:
        return f"--batch-size {smaller}"
    for flags, others in shallower:
        if fits(others, 1):
            return f"{flags} with --batch-size 1"
    return "a smaller model"
