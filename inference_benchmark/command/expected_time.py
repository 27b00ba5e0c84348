"""How long a session will take, before it is started: roughly, and better with each one that ended.

Runs take what the hardware needs at least, and some more; before them come loading, building,
compiling and the output check. Where no limit is known, sessions end when their time is up. Imports
no torch.
"""

from collections.abc import Sequence

from inference_benchmark.hardware import Ceilings
from inference_benchmark.options.request import Request
from inference_benchmark.session.plan import CellPlan
from inference_benchmark.session.planning import plan_cells
from inference_benchmark.statistics.stopping import StoppingRule

_START_S = 15.0  # Python, torch, weights
_PLAIN_S = 5.0  # of a cell that compiles nothing, its check included
_COMPILED_S = 40.0
_OVER_LIMIT = 1.4  # a run's time over the least that the hardware needs
_USUAL_RUNS = 12  # until intervals are narrow
_USUAL_WARMUPS = 3
_UNKNOWN_RUN_S = 1.0


def expected_s(request: Request, ceilings: Ceilings | None) -> float:
    """Of one session. ceilings: of the GPU; None: not known."""
    groups = plan_cells(request)
    started = sum(_start_s(cell) for cells in groups for cell in cells)
    return _START_S + started + sum(_runs_s(request, cells, ceilings) for cells in groups)


def _start_s(cell: CellPlan) -> float:
    return _PLAIN_S if cell.spec.is_plain else _COMPILED_S


def _runs_s(request: Request, cells: Sequence[CellPlan], ceilings: Ceilings | None) -> float:
    """Of a group; the rule stops all of its cells together."""
    warmups = request.warmup_iterations
    warmups = _USUAL_WARMUPS if warmups is None else warmups
    most_s = StoppingRule.adaptive(request.device, None, request.max_seconds).max_seconds
    fixed = request.num_iterations
    if ceilings is None and fixed is None:
        return most_s
    run_s = sum(_run_s(cell, ceilings) for cell in cells)
    timed_s = run_s * (fixed or _USUAL_RUNS)
    return warmups * run_s + (timed_s if fixed else min(timed_s, most_s))


def _run_s(cell: CellPlan, ceilings: Ceilings | None) -> float:
    limit = cell.cost.limit(ceilings)
    least_s = limit and limit["metrics"].get(cell.workload.run_metric)
    return _UNKNOWN_RUN_S if least_s is None else least_s * _OVER_LIMIT


class Clock:
    """Corrects what is expected by what sessions of this sweep really took."""

    def __init__(self) -> None:
        self._expected = self._taken = 0.0

    def ended(self, expected: float, taken: float) -> None:
        self._expected += expected
        self._taken += taken

    def corrected(self, expected: float) -> float:
        return expected * (self._taken / self._expected if self._expected else 1.0)


def about(seconds: float) -> str:
    """about 2 h 10 min, about 14 min, under a minute."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes)
    return f"about {' '.join(parts)}"
