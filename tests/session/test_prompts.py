"""--save-prompts: what another program is given is what was timed."""

import json

import pytest
import torch
from scripted import PASSED, whole_session

from inference_benchmark.errors import RequestError
from inference_benchmark.models import MODELS
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.workloads.depth import Depth
from inference_benchmark.workloads.generation import Generation
from inference_benchmark.workloads.inputs import random_tokens

FIXED = ("--num-iterations", "2", "--warmup-iterations", "1", "--save-prompts")


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_timed_run_of_each_batch_size_is_written_once(monkeypatch, capsys, tmp_path):
    run = whole_session(monkeypatch, capsys)
    seen = []
    monkeypatch.setattr(
        Generation, "before_run", lambda self, engine, inputs: seen.append(inputs.tolist())
    )
    flags = ("--batch-size", "1", "2", "--mode", "eager", "inductor", *FIXED)
    code, out, _ = run({}, *flags, "--output", str(tmp_path / "a.json"))
    assert code == 0
    header, *runs = lines_of(tmp_path / "a.prompts.jsonl")
    assert header["vocab_size"] == MODELS["llama3.1-8b"].vocab_size
    assert (header["result"], header["seed"]) == ("a.json", 0)
    assert [(run["batch_size"], run["run"]) for run in runs] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert all(run["token_ids"] in seen for run in runs)
    expected = random_tokens(header["vocab_size"], 2, header["input_length"], 0, 1, "cpu")
    assert torch.equal(torch.tensor(runs[-1]["token_ids"]), expected)
    assert f"prompts: {tmp_path / 'a.prompts.jsonl'}" in out


def test_of_a_depth_the_token_that_decoding_starts_with_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Depth, "check", lambda self, engine, *_: PASSED)
    run = whole_session(monkeypatch, capsys)
    run({}, "--depth", "8", *FIXED, "--output", str(tmp_path / "a.json"))
    _, first, _ = lines_of(tmp_path / "a.prompts.jsonl")
    assert (first["context_depth"], len(first["token_ids"][0])) == (8, 1000)
    assert len(first["first_decode_token_ids"][0]) == 1


def test_without_a_result_there_is_nothing_to_write_beside():
    with pytest.raises(RequestError, match="--save-prompts does nothing without --save-results"):
        resolve(make_parser().parse_args(["--device", "cpu", "--mode", "eager", "--save-prompts"]))
