"""Ways to execute a model: one file per mode, found through the table below.

This file knows names only, so that `--help` and a wrong flag are answered without torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModeEntry:
    name: str
    module: str  # holds a class `Mode`, see modes/base.py
    graphs_by_default: bool
    packages: tuple[str, ...]  # import names that must be there
    description: str


_TABLE = (
    ModeEntry(
        "thunder",
        "inference_benchmark.engines.thunder",
        True,
        ("thunder",),
        "lightning-thunder: traced, fused",
    ),
    ModeEntry(
        "eager",
        "inference_benchmark.engines.eager",
        False,
        (),
        "plain PyTorch, one kernel per operation",
    ),
    ModeEntry(
        "inductor",
        "inference_benchmark.engines.inductor",
        True,
        (),
        "torch.compile, full graph, static shapes",
    ),
)

MODES: dict[str, ModeEntry] = {entry.name: entry for entry in _TABLE}
