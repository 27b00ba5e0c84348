"""A fake mode and a scripted clock: sessions without a model, a GPU or waiting."""

from types import SimpleNamespace

from inference_benchmark.session.cell import Cell
from inference_benchmark.workloads.metrics import Work

from inference_benchmark import hardware
from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.models import MODELS, Precision
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.session import benchmark

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


def make_cell(
    name="eager", graphs=False, batch_size=1, script=None, num_layers=None, **engine
) -> Cell:
    """With num_layers one of several depths."""
    spec = ModeSpec(name, (), graphs)
    model = MODELS["llama3.1-8b"].with_layers(num_layers)
    precision = Precision.of("bf16")
    cell = Cell(
        spec=spec,
        mode_label=spec.label,
        batch_size=batch_size,
        model=model,
        precision=precision,
        kernels=SimpleNamespace(attention="sdpa", linear="torch"),
        work=Work.of(model, precision, batch_size, INPUT, OUTPUT),
        qualifier="" if num_layers is None else f"{num_layers}L",
        timer="wall",
    )
    cell.engine = FakeEngine(name=cell.label, **engine)
    cell.clock_type = ScriptedClock(script or steady(0.1, 0.01))
    cell.agreement = {"passed": True, "failures": []}
    return cell


class FakePreparation:
    """Hands out scripted engines instead of building a model."""

    def __init__(self, request, on_progress, ranks) -> None:
        pass

    def build(self) -> None:
        pass

    def prepare(self, cells: list[Cell]) -> None:
        pass

    def prompts(self, batch_size: int, run: int) -> int:
        return run


def whole_session(monkeypatch, capsys):
    """run(cells, *flags) -> (exit code, stdout, result): all of a session but its preparation."""

    def run(cells, *flags):
        results = []
        monkeypatch.setattr(benchmark, "Preparation", FakePreparation)
        monkeypatch.setattr(benchmark, "make_cells", lambda request, one_shot: cells)
        report = benchmark.report
        monkeypatch.setattr(benchmark, "report", lambda r: results.append(r) or report(r))
        monkeypatch.setattr(benchmark, "_free_host_bytes", lambda: None)  # nothing is built
        h200 = hardware.find_gpu("NVIDIA H200")
        ceilings = hardware.ceilings(h200, "bf16")
        monkeypatch.setattr(benchmark, "ceilings", lambda *_: ceilings)
        arguments = ["--device", "cpu", "--mode", "eager", "--quiet", "--input-length", str(INPUT)]
        arguments += ["--output-length", str(OUTPUT), *flags]
        request = resolve(make_parser().parse_args(arguments))
        code = benchmark.run(request, ["x"], 0.0)
        return code, capsys.readouterr().out, results[0]

    return run
