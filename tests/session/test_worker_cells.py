"""A whole session with an engine in a worker process, right and crashing, beside eager."""

import json
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scripted import plan_cell

from inference_benchmark import benchmark_inference
from inference_benchmark.engines import ENGINES, EngineEntry
from inference_benchmark.engines.worker_engine import WorkerEngine
from inference_benchmark.parallel.ranks import Ranks
from inference_benchmark.session.live import LiveCell
from inference_benchmark.session.prepare import Preparation
from inference_benchmark.session.weights import Weights

FLAGS = [
    "--model-name",
    "llama-tiny",
    "--num-layers",
    "1",
    "--device",
    "cpu",
    "--precision",
    "fp32",
]
FLAGS += ["--input-length", "6", "--output-length", "4", "--num-iterations", "2", "--json"]
FLAGS += ["--warmup-iterations", "0", "--baseline", "eager", "--table", "engines"]


class Echo(WorkerEngine):
    """Counts up, which is no Llama's answer, or crashes."""

    generator = str(Path(__file__).parent.parent / "engines" / "echo_generator.py")
    fault = None

    def settings(self):
        assert (self.resources.files.safetensors() / "config.json").exists()
        return {"fault": self.fault}


class Crashing(Echo):
    fault = "kill"


class Tokens(Echo):
    capabilities = replace(WorkerEngine.capabilities, evidence=frozenset({"tokens"}))


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    def run(engine: str):
        entry = EngineEntry(
            "echo",
            f"{__name__}:{engine}",
            "for this test",
            graphs_by_default=False,
            copies_weights=True,
            has_own_loop=True,
            in_worker=True,
        )
        monkeypatch.setitem(ENGINES, "echo", entry)
        monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        code = benchmark_inference.main(["--mode", "echo", *FLAGS])
        out = capsys.readouterr()
        assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # weights are gone
        return code, json.loads(out.out.splitlines()[-1])["cells"]

    return run


def test_a_crash_is_a_failed_cell_and_others_go_on(run):
    code, (echo, eager) = run("Crashing")
    assert code == 1
    assert echo["status"] == "failed"
    assert echo["error"].startswith(
        "WorkerFailed: the worker was ended by SIGKILL; its last lines:"
    )
    assert "about to go" in echo["error"]
    assert (eager["status"], eager["summary"]["n"]) == ("ok", 2)
    assert echo["engine"]["process"] == "workers"


def test_wrong_tokens_have_no_speed(run):
    _, (echo, eager) = run("Tokens")
    assert echo["status"] == "wrong_output"
    assert echo["output_check"]["checked"] == ["tokens"]
    assert echo["summary"] is None
    assert echo["engine"] == {
        "name": "echo",
        "clock": "wall",
        "granularity": "stream",
        "process": "workers",
        "weights": "copy",
        "evidence": ["tokens"],
    }
    assert echo["options"]["compiler"]["version"] == "1"
    assert eager["status"] == "ok"


def test_what_a_worker_starts_on_the_gpu_is_the_cells(monkeypatch):
    """Its own process while it opens, and those of its compilers at the first calls."""

    class Own:
        pids = frozenset({1})

        @contextmanager
        def starting(self):
            yield
            self.pids |= {max(self.pids) + 1}

    entry = EngineEntry("echo", "a:B", "", graphs_by_default=False, in_worker=True)
    monkeypatch.setitem(ENGINES, "echo", entry)
    preparation = Preparation(Weights(), torch.device("cpu"), 0, Ranks(), own_processes=Own())
    worker, eager = LiveCell(plan_cell("echo")), LiveCell(plan_cell("eager"))
    for cell in (worker, eager, worker):
        with preparation._watching(cell):
            pass
    assert worker.pids == {2, 3}
    assert eager.pids == frozenset()
