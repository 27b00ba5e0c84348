"""GPU memory: what a session will need, computed before anything is allocated, and what it took."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference_benchmark.engines.base import MAX_CAPTURED_PROMPT_TOKENS
from inference_benchmark.model.config import ModelConfig, Precision

# CUDA context, cuBLAS workspaces, compiled kernels, pools of small CUDA graphs and fragmentation.
RUNTIME_BYTES = 1_500_000_000
# Channels and buffers of NCCL, where several GPUs share a model.
COMMUNICATION_BYTES = 500_000_000


@dataclass(frozen=True)
class Need:
    """Predicted bytes of a group of cells. Weights exist once; each cell has a KV cache of its own."""

    weights: int
    kv_cache: int  # of all cells
    activations: int  # the largest prefill, or what another workload needs for a while
    check: int = 0  # what the output check holds at a time, when nothing else is computed
    runtime: int = RUNTIME_BYTES
    outputs: int = 0  # logits of all positions, of workloads that leave them
    cutting: int = 0  # the largest whole weight, while a rank's share is cut from it
    copies: int = 0  # what engines of other projects hold of the weights, and their processes
    captured: int = 0  # activations of prompts that CUDA graphs keep

    @property
    def total(self) -> int:
        cells = self.kv_cache + max(self.activations, self.check) + self.outputs + self.captured
        return self.weights + max(cells, self.cutting) + self.runtime + self.copies


def activation_bytes(
    config: ModelConfig,
    precision: Precision,
    batch_size: int,
    input_length: int,
    context_depth: int = 0,
) -> int:
    """Live tensors at the widest point of a prefill: residual, update, hidden and one more of their
    size, and what the widest part of a layer holds; the logits of the last position, once in fp32;
    and what attention makes of the context that is there before it.
    """
    per_token = 4 * config.hidden_size + config.widest_activation_values()
    logits = batch_size * config.vocab_size * (precision.base_bytes + 4)
    layers = config.layer_kinds
    expanded = max((layer.attention.expanded_values_per_token() for layer in layers), default=0)
    tokens = input_length * per_token + context_depth * expanded
    return batch_size * tokens * precision.base_bytes + logits


def predict(
    cells: Sequence[tuple[ModelConfig, Precision, int]],
    input_length: int,
    cache_length: int,
    check_bytes: int = 0,
    output_bytes: int = 0,
    stored: Sequence[Precision] = (),
    context_depth: int = 0,
    num_copies: int = 0,
    working_bytes: int = 0,
    with_graphs: Sequence[tuple[ModelConfig, Precision, int]] = (),
) -> Need:
    """What cells of these models, precisions and batch sizes need together.

    Their models are depths of one: the weights of the deepest serve all. Those that an engine
    quantises stand beside them, for each cell anew.

    Args:
        cache_length: slots per sequence; 0: no cache.
        check_bytes: what the output check holds at a time.
        output_bytes: what each cell of the largest batch keeps beside its cache.
        stored: in which the session's weights exist; () for that of the cells.
        context_depth: of the cache's slots those that are filled before a prompt.
        num_copies: engines in processes of their own and other implementations of the model, each
            with a copy of the weights.
        working_bytes: what a run needs for a while, where a prefill needs less.
        with_graphs: those of the cells whose steps are captured in CUDA graphs of ours.
    """
    config, precision, _ = max(cells, key=lambda cell: cell[0].num_layers)
    largest = max(batch_size for *_, batch_size in cells)
    captured = [
        activation_bytes(model, precision, batch_size, input_length, context_depth)
        for model, precision, batch_size in with_graphs
        if cache_length and batch_size * input_length <= MAX_CAPTURED_PROMPT_TOKENS
    ]
    caches = [
        model.kv_cache_bytes(precision, batch_size, cache_length) for model, _, batch_size in cells
    ]
    quantised = [
        model.linear_bytes(precision)
        for model, precision, _ in cells
        if precision.weight_format.made_by_engine
    ]
    return Need(
        weights=_weight_bytes(config, stored or (precision.stored,)) + sum(quantised),
        kv_cache=sum(caches),
        activations=max(
            activation_bytes(config, precision, largest, input_length, context_depth), working_bytes
        ),
        check=check_bytes,
        outputs=len(cells) * output_bytes,
        runtime=RUNTIME_BYTES + (COMMUNICATION_BYTES if config.tensor_parallel > 1 else 0),
        cutting=_cutting_bytes(config, precision),
        copies=num_copies * (config.weight_bytes(precision) + RUNTIME_BYTES),
        captured=sum(captured),
    )


def _weight_bytes(config: ModelConfig, stored: Sequence[Precision]) -> int:
    """Of one model in several precisions, which share all that they store alike. Where it is not
    kept as it is, one layer after the other is, while it is quantised."""
    first, *others = stored
    weights = config.weight_bytes(first)
    for precision in others:
        weights += config.stored_bytes(precision)
        if precision.with_head:
            weights += config.head_bytes(precision)
    if not any(precision.is_quantized for precision in stored):
        return weights
    base = Precision.of(first.base)
    if base not in stored:
        weights += config.largest_stored_bytes(base)
    if any(precision.with_head for precision in stored) and first.with_head:
        weights += config.head_bytes(base)
    return weights


def _cutting_bytes(config: ModelConfig, precision: Precision) -> int:
    """Of a rank's share: before KV caches exist, one whole weight after the other is cut."""
    if config.tensor_parallel == 1:
        return 0
    kinds = [layer.feed_forward for layer in config.layer_kinds]
    gate_up = max(2 * getattr(layer, "num_experts", 1) * layer.intermediate_size for layer in kinds)
    largest = max(gate_up * config.hidden_size, config.head_parameters)
    return config.tensor_parallel * largest * precision.base_bytes


_ALLOCATED = ("current_allocated_bytes", "peak_allocated_bytes", "peak_reserved_bytes")


def combine(memories: list[dict]) -> dict:
    """What the allocators of several GPUs took: on the fullest one, and together."""
    if len(memories) < 2:
        return {}
    combined = {}
    for name in _ALLOCATED:
        values = [memory.get(name) for memory in memories]
        known = None not in values
        combined[name] = max(values) if known else None
        combined[f"total_{name}"] = sum(values) if known else None
    retries = [memory.get("allocator_retries") for memory in memories]
    combined["allocator_retries"] = None if None in retries else sum(retries)
    return combined
