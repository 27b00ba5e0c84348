"""A fake mode and a scripted clock: sessions without a model, a GPU or waiting."""

from types import SimpleNamespace

from measurement.cell import Cell
from measurement.metrics import Work
from models import MODELS, Precision
from modes.spec import ModeSpec

INPUT, OUTPUT = 1000, 5


class ScriptedClock:
    """Gaps come from a script instead of from time passing.

    `script` holds one list of gaps per run, [ttft, step, step, ...], used in turn.
    """

    timer = "wall"

    def __init__(self, script) -> None:
        self._script = script

    def __call__(self, num_marks: int) -> "ScriptedClock":
        self._gaps = next(self._script)
        assert len(self._gaps) == num_marks - 1
        return self

    def mark(self) -> None:
        pass

    def gaps_s(self) -> list[float]:
        return list(self._gaps)


class FakeMode:
    def __init__(self, counts=()) -> None:
        self._counts = iter(counts)
        self._last = 0

    def compile_count(self) -> int:
        self._last = next(self._counts, self._last)
        return self._last


class FakeEngine:
    """Counts calls; fails or interrupts at a chosen prefill."""

    def __init__(self, log=None, name="", fail_at=None, error=None, counts=()) -> None:
        self.mode = FakeMode(counts)
        self.log = log if log is not None else []
        self.name = name
        self.prefills = 0
        self.decodes = 0
        self.closed = False
        self._fail_at, self._error = fail_at, error

    def prefill(self, input_ids) -> None:
        self.prefills += 1
        self.log.append(self.name)
        if self.prefills == self._fail_at:
            raise self._error

    def decode(self) -> None:
        self.decodes += 1

    def close(self) -> None:
        self.closed = True


def steady(ttft_s: float, step_s: float, jitter=(0.0,)):
    """An endless script: runs of one TTFT and equal steps, scaled by 1 + jitter in turn."""
    while True:
        for each in jitter:
            yield [ttft_s * (1 + each)] + [step_s * (1 + each)] * (OUTPUT - 1)


def make_cell(name="eager", graphs=False, batch_size=1, script=None, **engine) -> Cell:
    spec = ModeSpec(name, (), graphs)
    model = MODELS["llama3.1-8b"]
    precision = Precision.of("bf16")
    cell = Cell(
        spec=spec,
        mode_label=spec.label,
        batch_size=batch_size,
        model=model,
        precision=precision,
        kernels=SimpleNamespace(attention="sdpa", linear="torch"),
        work=Work.of(model, precision, batch_size, INPUT, OUTPUT),
        timer="wall",
    )
    cell.engine = FakeEngine(name=cell.label, **engine)
    cell.clock_type = ScriptedClock(script or steady(0.1, 0.01))
    cell.agreement = {"passed": True, "failures": []}
    return cell
