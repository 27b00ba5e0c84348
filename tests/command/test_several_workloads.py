"""Several workloads of one command: the same weights, a file each, one table of gains."""

import json
from collections.abc import Callable

import pytest
from conftest import ROOT

from inference_benchmark import benchmark_inference
from inference_benchmark.command.workloads import run_all
from inference_benchmark.session import weights

FLAGS = (
    "--workload forward generation --model-name llama-tiny --num-layers 1 --mode eager --device cpu "
    "--quiet --input-length 8 --output-length 3 --num-iterations 2 --warmup-iterations 1 "
    "--save-results --output-dir"
)


def test_builds_are_compared_in_each_workload_with_weights_built_once(
    tmp_path, capsys, monkeypatch
):
    built = []
    build_decoder = weights.build_decoder

    def counted(model, precision, device, context_length, *rest):
        built.append(context_length)
        return build_decoder(model, precision, device, context_length, *rest)

    monkeypatch.setattr(weights, "build_decoder", counted)
    implementation = f"{ROOT / 'examples' / 'own_model.py'}:build"
    code = benchmark_inference.main(
        [*FLAGS.split(), str(tmp_path), "--implementation", "default", implementation]
    )
    assert code == 0
    assert built == [8 + 3]  # of the workload that needs most
    paths = sorted(tmp_path.glob("*.json"))
    assert [path.name.split("_")[1] for path in paths] == ["8x3", "forward-8"]
    results = [json.loads(path.read_text()) for path in paths]
    assert {result["workload"]["name"] for result in results} == {"forward", "generation"}
    for result in results:
        assert result["state"] == "complete"
        assert [cell["label"] for cell in result["cells"]] == ["eager b1", "eager@own_model b1"]
        assert all(cell["output_check"]["passed"] for cell in result["cells"])
        ours, theirs = (cell["samples"]["started"] for cell in result["cells"])
        assert ours[0] < theirs[0] < theirs[1] < ours[1]  # they take turns
    last = capsys.readouterr().out.rpartition("against default in the same mode")[2]
    rows = [line.split()[2] for line in last.splitlines() if line.startswith("eager@own_model")]
    assert rows == ["forward", "TTFT", "TBOT"]


class Session:
    """Ends with this exit code; its ending prints nothing."""

    def __init__(self, code: int, interrupted: bool = False, printed: int = 0) -> None:
        self._code, self.interrupted, self._printed = code, interrupted, printed
        self.has_run = False
        self.ending, self.out = self, None

    def run(self) -> int:
        self.has_run = True
        return self._code

    def print(self, action: Callable[[], None]) -> None:
        pass

    def result(self) -> dict:
        return {"cells": []}

    def code(self, measured: int) -> int:
        return self._printed or measured


@pytest.mark.parametrize(
    ("codes", "together"),
    [
        ((0, 0), 0),
        ((0, 1), 1),
        ((1, 0), 1),
        ((3, 0), 1),  # a workload that could not run beside one that could
        ((3, 3), 3),
        ((3,), 3),
        ((4, 0), 4),
        ((130,), 130),
    ],
)
def test_one_exit_code_for_all(codes, together):
    assert run_all([Session(code) for code in codes]) == together


def test_a_table_of_gains_that_is_lost_shows_in_the_exit_code():
    assert run_all([Session(0), Session(0, printed=4)]) == 4


def test_after_an_interrupt_nothing_more_is_measured():
    sessions = [Session(0), Session(143, interrupted=True), Session(0)]
    assert run_all(sessions) == 143
    assert [session.has_run for session in sessions] == [True, True, False]
