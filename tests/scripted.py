"""Sessions of scripted engines: without a model, a GPU or waiting."""

from dataclasses import replace

from inference_benchmark.command import benchmark
from inference_benchmark.engines.base import EnginePlan
from inference_benchmark.engines.scripted import ScriptedEngine, steady
from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.model.config import Precision
from inference_benchmark.models import MODELS
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.session.live import LiveCell
from inference_benchmark.session.plan import CellPlan
from inference_benchmark.session.weights import Weights
from inference_benchmark.workloads.generation import Generation

INPUT, OUTPUT = 1000, 5
PASSED = {
    "passed": True,
    "checked": ["logits", "cache"],
    "tolerance": 0.03,
    "floor": None,
    "measured": {},
    "failures": [],
    "seconds": 0.1,
}
WRONG = PASSED | {"passed": False, "failures": ["decode error 0.5 over 0.03"]}


class CheckedEngine(ScriptedEngine):
    """One whose output check says what it was told to say."""

    capabilities = replace(ScriptedEngine.capabilities, evidence=frozenset({"logits"}))

    def __init__(self, *arguments, check=PASSED, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.check = check


def plan_cell(name="eager", graphs=False, batch_size=1, num_layers=None, workload=None) -> CellPlan:
    """Of llama3.1-8b; with num_layers one of several depths."""
    workload = workload or Generation(INPUT, OUTPUT)
    return CellPlan(
        spec=ModeSpec(name, (), graphs),
        workload=workload,
        model=MODELS["llama3.1-8b"].with_layers(num_layers),
        precision=Precision.of("bf16"),
        engine=EnginePlan(batch_size, INPUT, workload.cache_length, num_layers),
        depth=None if num_layers is None else f"{num_layers}L",
        device="cpu",
    )


def make_cell(plan: CellPlan | None = None, **engine) -> LiveCell:
    """A cell whose engine is open, as after its preparation."""
    plan = plan or plan_cell()
    cell = LiveCell(plan)
    cell.engine = CheckedEngine(plan.engine, None, name=plan.label, **engine)
    cell.clock_type = cell.engine.clock_type
    cell.record.take_check(PASSED)
    return cell


def whole_session(monkeypatch, capsys):
    """run(engines, *flags) -> (exit code, stdout with details, result), of scripted engines.

    engines: {label of the cell: settings of its engine}; others run steadily. A `check` of None
    is an engine whose outputs can't be checked.
    """

    def run(engines: dict[str, dict], *flags: str):
        def open_engine(plan, resources):
            settings = {"script": steady(0.1, 0.01)} | engines.get(plan.label, {})
            if settings.get("check", PASSED) is None:
                del settings["check"]
                return ScriptedEngine(plan.engine, resources, **settings)
            return CheckedEngine(plan.engine, resources, **settings)

        monkeypatch.setattr(Weights, "build", lambda self, *_: None)
        monkeypatch.setattr(benchmark, "free_host_bytes", lambda: None)
        monkeypatch.setattr(Generation, "check", lambda self, engine, *_: engine.check)
        arguments = ["--device", "cpu", "--quiet", "--details"]
        for flag, value in (("--mode", "eager"), ("--model-name", "llama3.1-8b")):
            arguments += [] if flag in flags else [flag, value]
        arguments += ["--input-length", str(INPUT), "--output-length", str(OUTPUT)]
        arguments += ["--gpu-bandwidth", "4.8TB/s", "--gpu-peak", "989TFLOP/s", *flags]
        request = resolve(make_parser().parse_args(arguments))
        session = benchmark.Benchmark(request, ["x"], 0.0, open_engine=open_engine)
        code = session.run()
        return code, capsys.readouterr().out, session.ending.result()

    return run
