"""Cells of the full model that never ran, from the cells of two depths that did.

Both depths run in every round, so an estimate is a sample per round: its interval comes from the
same statistics as a measured one, the weight of the noise included. Outputs were checked at both
depths, or there is no estimate.
"""

from collections.abc import Sequence
from dataclasses import replace

from inference_benchmark.model.extrapolation import Extrapolation
from inference_benchmark.models import ModelConfig
from inference_benchmark.session.cell import MEMORY, Cell, EstimatedRun
from inference_benchmark.workloads.metrics import Work

_QUALIFIER = "EST"
_NOISE = (
    "no estimate: in some round the deeper of the two was so much the faster one that the full "
    "model would take no time at all; take depths that lie further apart, or less noise"
)


def estimated_cells(
    cells: Sequence[Cell], extrapolation: Extrapolation, model: ModelConfig, share: ModelConfig
) -> list[Cell]:
    """One for each mode and batch size of which both depths were measured soundly.

    model: the full one; share: what one rank would hold of it.
    """
    return [
        _estimate(pair, extrapolation, model, share)
        for pair in _pairs(cells, extrapolation)
        if all(cell.is_sound for cell in pair)
    ]


def is_source(cell: Cell, estimate: Cell) -> bool:
    """Whether the estimate comes from this cell, among others."""
    same = (cell.spec, cell.batch_size) == (estimate.spec, estimate.batch_size)
    return same and cell.model.num_layers in estimate.extrapolation.from_layers


def _pairs(cells: Sequence[Cell], extrapolation: Extrapolation) -> list[tuple[Cell, Cell]]:
    small, large = (
        [cell for cell in cells if cell.model.num_layers == depth]
        for depth in extrapolation.from_layers
    )
    return list(zip(small, large, strict=True))


def _estimate(
    pair: tuple[Cell, Cell], extrapolation: Extrapolation, model: ModelConfig, share: ModelConfig
) -> Cell:
    large = pair[1]
    work = large.work
    lengths = work.batch_size, work.input_length, work.output_length
    cell = Cell(
        spec=large.spec,
        mode_label=large.mode_label,
        batch_size=large.batch_size,
        model=model,
        precision=large.precision,
        kernels=large.kernels,
        work=Work.of(share, large.precision, *lengths),
        qualifier=_QUALIFIER,
        extrapolation=extrapolation,
        timer=large.timer,
        cold_start=None,
        memory=_memory(share, large),
        status="partial" if any(cell.status == "partial" for cell in pair) else "ok",
        stop_reason=large.stop_reason,
    )
    rounds, runs = _runs(pair, extrapolation)
    times = [run.ttft_s for run in runs]
    times += [run.decode_s for run in runs] if work.output_length > 1 else []
    if min(times, default=1.0) <= 0:
        return replace(cell, status="failed", error=_NOISE)
    return replace(cell, rounds=rounds, runs=runs)


def _memory(share: ModelConfig, cell: Cell) -> dict:
    """What is known without having been there."""
    cache_length = cell.work.input_length + cell.work.output_length
    return dict.fromkeys(MEMORY) | {
        "weights_bytes": share.weight_bytes(cell.precision),
        "kv_cache_bytes": share.kv_cache_bytes(cell.precision, cell.batch_size, cache_length),
    }


def _runs(
    pair: tuple[Cell, Cell], extrapolation: Extrapolation
) -> tuple[list[int], list[EstimatedRun]]:
    """Of the rounds that both depths have, each with itself: what a round suffers, both suffer."""
    small, large = (dict(zip(cell.rounds, cell.runs, strict=True)) for cell in pair)
    rounds = sorted(small.keys() & large.keys())
    runs = [
        EstimatedRun(
            extrapolation.estimate(small[number].ttft_s, large[number].ttft_s),
            extrapolation.estimate(small[number].decode_s, large[number].decode_s),
        )
        for number in rounds
    ]
    return rounds, runs
