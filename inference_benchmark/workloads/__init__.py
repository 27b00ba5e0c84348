"""What is timed: one file per workload, found through the table below. No torch."""

from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class WorkloadEntry:
    name: str
    workload: str  # "module:Class", a subclass of workloads.base.Workload
    description: str
    reads_prompt_only: bool = False  # nothing is generated: --output-length has no meaning
    has_depths: bool = False  # it is timed at each context depth of --depth
    input_length: int = 2048  # where neither --input-length nor a scenario says so
    is_part: bool = False  # of one layer: its modes are implementations of that part
    trains: bool = False  # weights need gradients, and engines copies of them

    def load(self) -> type:
        module, name = self.workload.split(":")
        return getattr(import_module(module), name)


_TABLE = (
    WorkloadEntry(
        "generation",
        "inference_benchmark.workloads.generation:Generation",
        "a prefill, then one decode step per further token",
    ),
    WorkloadEntry(
        "forward",
        "inference_benchmark.workloads.forward:SingleForward",
        "one forward over batch x input length, logits of all positions, no KV cache",
        reads_prompt_only=True,
    ),
    WorkloadEntry(
        "depth",
        "inference_benchmark.workloads.depth:Depth",
        "a prefill and decode steps, each behind a context of given length",
        has_depths=True,
        input_length=512,
    ),
    WorkloadEntry(
        "attention",
        "inference_benchmark.workloads.parts:Attention",
        "the attention of one layer: queries, keys and values in, no projections",
        reads_prompt_only=True,
        is_part=True,
    ),
    WorkloadEntry(
        "ffn",
        "inference_benchmark.workloads.parts:FeedForward",
        "the feed-forward network of one layer",
        reads_prompt_only=True,
        is_part=True,
    ),
    WorkloadEntry(
        "layer",
        "inference_benchmark.workloads.parts:Layer",
        "one whole decoder layer",
        reads_prompt_only=True,
        is_part=True,
    ),
    WorkloadEntry(
        "training",
        "inference_benchmark.workloads.training:Training",
        "a training step: forward, loss, backward and the optimiser, over batch x input length",
        reads_prompt_only=True,
        trains=True,
    ),
)

WORKLOADS: dict[str, WorkloadEntry] = {entry.name: entry for entry in _TABLE}

PARTS = tuple(entry.name for entry in _TABLE if entry.is_part)


def register(entry: WorkloadEntry) -> None:
    """Make a workload of another package or file known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if WORKLOADS.setdefault(entry.name, entry) != entry:
        raise ValueError(f"there is a workload named {entry.name}")
