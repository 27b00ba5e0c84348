"""When a mode has won back what it cost to start. No torch."""

from collections.abc import Mapping, Sequence
from statistics import median

from inference_benchmark.analysis.speedups import find_plain
from inference_benchmark.session.record import MeasuredCell


def payback_tokens(cell: MeasuredCell, cells: Sequence[MeasuredCell]) -> float | None:
    """Output tokens per sequence after which the mode has won back its cold start against plain
    eager.

    None where it never does or nothing is known, and for the two depths of an estimate: the second
    one may use what was compiled for the first.
    """
    metric = cell.plan.workload.payback_metric
    plain = find_plain(cell, cells)
    if metric is None or plain is None or plain is cell:
        return None
    if cell.plan.depth is not None or not cell.record.is_sound:
        return None
    slow, fast = plain.times()[metric], cell.times()[metric]
    if not slow or not fast:
        return None
    gain_s = median(slow) - median(fast)
    return max(0.0, cold_s(cell) - cold_s(plain)) / gain_s if gain_s > 0 else None


def cold_s(cell: MeasuredCell) -> float:
    """Everything that comes before the first fast run, but the weights."""
    return start_up_s(cell.record.cold_start or {})


def start_up_s(stages: Mapping[str, float | None]) -> float:
    """The same of a record's or a result file's cold_start."""
    return sum(seconds or 0.0 for stage, seconds in stages.items() if is_of_the_mode(stage))


def is_of_the_mode(stage: str) -> bool:
    """Whether a stage of the cold start is the mode's: the weights are the session's."""
    return stage in ("setup_s", "capture_s") or stage.startswith("compile_")
