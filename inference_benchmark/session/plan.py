"""What a session is going to do, fixed before anything runs: groups of cells. No torch.

A cell is one mode at one batch size, depth of the model, depth of the context where that is asked
for, and, of a layer's part, length of sequences. Cells of one batch size, context and length are a
group: they are prepared together, measured in turn, and closed before the next group begins. Where the
modes of a group do not fit into memory together, each mode is a group of its own, and the cells say
that they were not interleaved.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from inference_benchmark.engines.base import EnginePlan
from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.extrapolation import Extrapolation
from inference_benchmark.model.implementation import OURS, Implementation
from inference_benchmark.workloads.base import Workload
from inference_benchmark.workloads.cost import Cost


@dataclass(frozen=True)
class CellPlan:
    """One mode at one batch size and depth.

    model: the whole of it at this depth, of which each of num_ranks ranks has a share.
    choices: what was asked for beyond the mode's name, single kernels and compiler options.
    implementation: whose build of the model it executes.
    depth: "4L" where cells of a session differ in depth alone, "EST" for an estimate of the full
        model, which never runs.
    """

    spec: ModeSpec
    workload: Workload
    model: ModelConfig
    precision: Precision
    engine: EnginePlan
    num_ranks: int = 1
    choices: tuple[str, ...] = ()
    depth: str | None = None
    device: str = "cuda"
    implementation: Implementation = OURS
    interleaved: bool = True
    # In which the session's weights exist while this cell runs, whichever of them it uses.
    stored: tuple[Precision, ...] = ()
    extrapolation: Extrapolation | None = None

    @property
    def batch_size(self) -> int:
        return self.engine.batch_size

    @property
    def context_depth(self) -> int | None:
        return self.workload.context_depth

    @cached_property
    def variant(self) -> str:
        """The mode as it is shown: "inductor+graphs[flash_decode]", "eager@my_model"."""
        choices = f"[{', '.join(self.choices)}]" if self.choices else ""
        whose = "" if self.implementation.is_default else f"@{self.implementation.name}"
        return self.spec.shown_label + choices + whose

    @property
    def length(self) -> str | None:
        """s512 where cells of a session differ in the length of their sequences."""
        return None if self.engine.part is None else f"s{self.engine.part.length}"

    @cached_property
    def label(self) -> str:
        context = None if self.context_depth is None else f"d{self.context_depth}"
        parts = (self.variant, f"b{self.batch_size}", self.length, context, self.depth)
        return " ".join(filter(None, parts))

    @property
    def name(self) -> dict:
        """The parts of the label, for the result file."""
        return {
            "mode": self.spec.name,
            "variant": self.variant,
            "kernels": self.spec.kernels,
            "batch_size": self.batch_size,
            "context_depth": self.context_depth,
            "length": self.length,
            "depth": self.depth,
        }

    @cached_property
    def share(self) -> ModelConfig:
        """What one rank holds and computes."""
        return self.model.sharded(self.num_ranks)

    @cached_property
    def cost(self) -> Cost:
        """Of one rank's run."""
        return self.workload.cost(self.share, self.precision, self.batch_size)

    def planned_memory(self) -> dict[str, int | None]:
        """Bytes on one rank, for the result file."""
        length = self.workload.cache_length
        cache = self.share.kv_cache_bytes(self.precision, self.batch_size, length)
        return {
            "weights_bytes": self.share.weight_bytes(self.precision),
            # Of a foreign architecture it is an upper bound, which serves predictions only.
            "kv_cache_bytes": None if self.share.is_foreign else cache,
        }

    @property
    def is_estimate(self) -> bool:
        return self.extrapolation is not None

    def takes_turns_with(self, other: "CellPlan") -> bool:
        """Whether both are measured in the same rounds."""
        ours, others = (
            (cell.interleaved, cell.batch_size, cell.length, cell.context_depth)
            for cell in (self, other)
        )
        return self.interleaved and ours == others

    def like(self, other: "CellPlan") -> bool:
        """Whether both do the same work, so that their times can be held against each other."""
        ours, others = (
            (
                cell.batch_size,
                cell.model.num_layers,
                cell.workload.input_length,
                cell.context_depth,
            )
            for cell in (self, other)
        )
        return ours == others


@dataclass(frozen=True)
class Group:
    """Cells that are prepared, measured in turn and closed together."""

    cells: tuple[CellPlan, ...]
    predicted_bytes: int | None = None

    @property
    def batch_size(self) -> int:
        return self.cells[0].batch_size

    @property
    def name(self) -> str:
        modes = dict.fromkeys(cell.variant for cell in self.cells)
        cell = self.cells[0]
        context = None if cell.context_depth is None else f"depth {cell.context_depth}"
        place = ", ".join(filter(None, (f"batch {cell.batch_size}", cell.length, context)))
        return f"{place}: {', '.join(modes)}"


@dataclass(frozen=True)
class SessionPlan:
    groups: tuple[Group, ...]

    @property
    def cells(self) -> Iterator[CellPlan]:
        return (cell for group in self.groups for cell in group.cells)
