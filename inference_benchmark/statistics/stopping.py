"""When a session has measured enough, and when a cell is warm: decided from the times alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference_benchmark.statistics.intervals import relative_half_width

_FLOOR_RUNS = 3  # not even a timeout ends a session before these


@dataclass(frozen=True)
class StoppingRule:
    """Ends a session between two rounds. Without a target it makes exactly max_runs."""

    min_runs: int
    max_runs: int
    target_ci: float | None  # relative half-width of the 95 % interval that is enough
    max_seconds: float | None

    @classmethod
    def adaptive(
        cls, device: str, target_ci: float | None = None, max_seconds: float | None = None
    ) -> "StoppingRule":
        """10 to 100 runs, until every interval is within 1 %; 600 s on a GPU, 30 s on the CPU."""
        seconds = 30.0 if device.startswith("cpu") else 600.0
        return cls(
            min_runs=10,
            max_runs=100,
            target_ci=0.01 if target_ci is None else target_ci,
            max_seconds=seconds if max_seconds is None else max_seconds,
        )

    @classmethod
    def fixed(cls, runs: int) -> "StoppingRule":
        return cls(runs, runs, target_ci=None, max_seconds=None)

    def decide(
        self, samples_by_cell: Sequence[Mapping[str, Sequence[float]]], elapsed_s: float
    ) -> str | None:
        """Why to stop now, in the words of the result file's stop_reason; None to go on.

        samples_by_cell holds one {metric: a time per run} for each cell that is still running; a
        metric without samples, such as the TBOT of a single token, sets no target.

        Raises:
            ValueError: no cell is running.
        """
        if not samples_by_cell:
            raise ValueError("no cell is left to decide on")
        runs = min(max(map(len, cell.values()), default=0) for cell in samples_by_cell)
        if self.target_ci is None and runs >= self.max_runs:
            return "fixed"
        if runs >= self.min_runs and self._is_precise(samples_by_cell):
            return "converged"
        if runs >= self.max_runs:
            return "max_iterations"
        is_late = self.max_seconds is not None and elapsed_s >= self.max_seconds
        return "timeout" if is_late and runs >= _FLOOR_RUNS else None

    def _is_precise(self, samples_by_cell: Sequence[Mapping[str, Sequence[float]]]) -> bool:
        """Whether every interval that would be printed is narrow enough, now and a run ago.

        Once would be luck now and then: to stop at the first narrow interval, of all that were
        looked at, leaves 92 % that hold the truth where 95 % are claimed; twice in a row, 94 %.
        """
        if self.target_ci is None:
            return False
        return all(
            self._is_narrow(samples) and self._is_narrow(samples[:-1])
            for cell in samples_by_cell
            for samples in cell.values()
            if len(samples)
        )

    def _is_narrow(self, samples: Sequence[float]) -> bool:
        width = relative_half_width(samples)
        return width is not None and width <= self.target_ci


@dataclass(frozen=True)
class WarmupRule:
    """Ends the warm-up of a cell: at max_runs, or once it has settled."""

    max_runs: int = 10
    agreement: float | None = 0.01  # of the last two runs; None: exactly max_runs

    @classmethod
    def fixed(cls, runs: int) -> "WarmupRule":
        return cls(runs, agreement=None)

    def decide(self, run_times: Sequence[float], compile_counts: Sequence[int]) -> bool:
        """True when the warm-up is done.

        run_times holds the seconds of each warm-up run, compile_counts what the compile counter
        (which never falls) showed after each; empty where the mode has no counter.
        """
        if len(run_times) >= self.max_runs:
            return True
        if self.agreement is None or len(run_times) < 2:
            return False
        is_still = len(set(compile_counts[-2:])) < 2
        previous, last = run_times[-2:]
        return is_still and abs(last - previous) <= self.agreement * min(previous, last)


_WORDS = {
    "fixed": "all runs made",
    "converged": "intervals narrow enough",
    "max_iterations": "the most runs made",
    "timeout": "the time was up",
}


def stop_words(reason: str | None) -> str:
    """A result file's stop_reason as people say it."""
    return "unknown" if reason is None else _WORDS.get(reason, reason)
