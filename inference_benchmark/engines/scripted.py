"""An engine without a model: the durations of its steps come from a script, and nothing waits.

For tests, for documentation, and for whoever wants to see tables and files without a GPU:
`--mode scripted`. It has no outputs, so none are checked, and what it reports says nothing about
any machine.
"""

import itertools
from collections.abc import Iterator, Sequence

from inference_benchmark.engines.base import Capabilities, Engine, EnginePlan, Resources

Script = Iterator[Sequence[float]]  # the gaps of each run in turn: [first step, next, next, ...]


class ScriptedEngine(Engine):
    """Counts its calls; fails or is interrupted where it is told to.

    Args:
        script: the gaps of each run in turn; without one, runs that vary by 0.1 %.
        fail_at: at which prefill, forward or training step, counted from 1, `error` is raised.
        compile_counts: what compile_count() returns, call by call; the last one stays.
        log: takes `name` at each prefill or forward, to see who ran when.
    """

    capabilities = Capabilities(
        clock="wall",
        capturable=False,
        evidence=frozenset(),
        owns_weights=True,
        steps=Capabilities().steps | {"fill", "train"},
    )

    def __init__(
        self,
        plan: EnginePlan,
        resources: Resources,
        *,
        script: Script | None = None,
        fail_at: int | None = None,
        error: BaseException | None = None,
        compile_counts: Sequence[int] = (),
        log: list | None = None,
        name: str = "",
    ) -> None:
        super().__init__(plan, resources)
        self.clock_type = ScriptedClock(script or default_script())
        self.prefills = self.decodes = self.forwards = 0
        self.closed = False
        self._fail_at, self._error = fail_at, error
        self._counts, self._count = iter(compile_counts), 0
        self._log, self._name = log, name

    def prefill(self, input_ids) -> None:
        self.prefills += 1
        self._begin_run()

    def decode(self) -> None:
        self.decodes += 1

    def fill(self, seed: int) -> None:
        pass

    def force(self, token, position: int) -> None:
        pass

    def forward(self, input_ids) -> None:
        self.forwards += 1
        self._begin_run()

    def train(self, token_ids) -> None:
        self.forward(token_ids)

    def _begin_run(self) -> None:
        if self._log is not None:
            self._log.append(self._name)
        if self.prefills + self.forwards == self._fail_at:
            raise self._error

    def compile_count(self) -> int:
        self._count = next(self._counts, self._count)
        return self._count

    def close(self) -> None:
        self.closed = True


class ScriptedClock:
    """Gaps come from the script instead of from time passing."""

    timer = "wall"

    def __init__(self, script: Script) -> None:
        self._script = script
        self._gaps_s: list[float] = []

    def __call__(self, num_marks: int) -> "ScriptedClock":
        """The next run's clock; a script whose run is shorter repeats its last gap."""
        gaps_s = list(next(self._script))[: num_marks - 1]
        self._gaps_s = gaps_s + gaps_s[-1:] * (num_marks - 1 - len(gaps_s))
        return self

    def mark(self) -> None:
        pass

    def gaps_s(self) -> list[float]:
        return list(self._gaps_s)


def steady(first_s: float, step_s: float, jitter: Sequence[float] = (0.0,)) -> Script:
    """Runs of one first step and equal further ones, scaled by 1 + jitter in turn."""
    for factor in itertools.cycle(jitter):
        yield [first_s * (1 + factor), step_s * (1 + factor)]


def default_script() -> Script:
    return steady(0.020, 0.004, (0.0, 0.001, -0.001))
