"""The script that times gpt-fast's loop, over a stand-in for its checkout, and the table of it."""

import importlib.util
import json
import sys

import pytest
from conftest import ROOT
from fake_results import fake_cell, fake_result

from inference_benchmark.reporting.peers import peers_table

# What the script uses of a checkout: the names and signatures that its generate.py has.
GENERATE = """
import time
from types import SimpleNamespace

import torch
from tokenizer import get_tokenizer


class Transformer(torch.nn.Module):
    @classmethod
    def from_name(cls, name):
        return cls()

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(n_layer=2, vocab_size=16)
        self.tok_embeddings = torch.nn.Embedding(16, 8)
        self.wo = torch.nn.Linear(8, 16, bias=False)


def prefill(model, tokens, input_pos, temperature, top_k):
    time.sleep(0.02)
    return torch.zeros(1, 1, dtype=torch.int64)


def decode_n_tokens(model, token, input_pos, count, callback=None, **sampling):
    time.sleep(0.01 * count)
    return [token + FIRST_TOKEN] * count, []


def generate(model, prompt, count, batch_size, *, interactive, draft_model, **sampling):
    first = prefill(model, prompt.view(1, -1), None, **sampling)
    others, _ = decode_n_tokens(model, first, None, count - 1, callback=None, **sampling)
    return torch.cat((prompt.view(1, -1) % 16, first, *others), dim=1), {}
"""


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """run(first token) -> what the script writes."""

    def run(first_token: int) -> dict:
        checkout = tmp_path / "gpt-fast"
        checkout.mkdir(exist_ok=True)
        source = GENERATE.replace("FIRST_TOKEN", str(first_token))
        (checkout / "generate.py").write_text(source)
        (checkout / "COMMIT").write_text("0123456789\n")
        for name in ("generate", "tokenizer"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        output = tmp_path / "out.json"
        lengths = ("--input-length", "12", "--output-length", "4", "--num-iterations", "2")
        options = ("--checkout", str(checkout), "--output", str(output), "--device", "cpu")
        monkeypatch.setattr(sys, "argv", ["gpt_fast.py", *options, *lengths])
        path = ROOT / "results" / "peers" / "gpt_fast.py"
        spec = importlib.util.spec_from_file_location("gpt_fast_script", path)
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        try:
            script.main()
        finally:
            for name in ("generate", "tokenizer"):
                sys.modules.pop(name, None)
        return json.loads(output.read_text())

    return run


def test_a_loop_is_timed_by_prefill_and_token(run_script):
    record = run_script(first_token=3)
    (run,) = record["runs"]
    assert len(run["ttft_s"]) == len(run["tbot_s"]) == 2
    assert all(seconds >= 0.02 for seconds in run["ttft_s"])
    assert all(seconds >= 0.01 for seconds in run["tbot_s"])
    assert run["options"] == "nothing compiled"  # on a CPU
    assert record["commit"] == "0123456789"
    assert str(ROOT) not in json.dumps(record)
    assert "/" not in record["command"].replace("results/peers/gpt_fast.py", "")


def test_tokens_outside_of_the_vocabulary_are_no_measurement(run_script):
    with pytest.raises(SystemExit, match="outside of the vocabulary"):
        run_script(first_token=16)


def test_programs_stand_beside_modes_of_the_same_model():
    peer = {
        "peer": "gpt-fast",
        "commit": "0123456789",
        "created": "2026-11-21T10:00:00Z",
        "environment": {"gpu": "NVIDIA H200", "torch": "2.11.0", "cuda": "13.0"},
        "batch_size": 1,
        "runs": [
            {"options": "--compile", "ttft_s": [0.03, 0.02, 0.05], "tbot_s": [0.005, 0.004, 0.006]}
        ],
    }
    cells = [fake_cell("inductor+kernels", noise=0.0), fake_cell("eager", runs=0, status="oom")]
    cells[0]["options"] |= {"linear": "gemv"}
    cells[1]["options"] |= {"linear": "torch"}
    ours = fake_result(cells, scenario="chat")
    foreign_cell = fake_cell("vllm", noise=0.0, ttft_s=0.025, tbot_s=0.00504)
    foreign_cell["options"] |= {"linear": None, "compiler": {"version": "0.26.0"}}
    foreign_cell["mode"] = "vllm"
    # Of a session with engines of other projects only these are shown, and each mode once.
    foreign = fake_result([foreign_cell, cells[0]], scenario="chat")
    table = peers_table([peer], [foreign], [ours, ours], "llama3.1-8b")
    _, _, *rows = table.splitlines()
    read = [[field.strip() for field in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in read] == ["gpt-fast --compile", "vllm", "inductor+kernels"]
    assert read[0][1:] == [
        *("1", "30.00", "5.000", "3", "2026-11-21", "gpt-fast 0123456, torch 2.11.0")
    ]
    assert read[1][2:4] == ["25.00", "5.040"]
    assert read[1][-1] == "vllm 0.26.0"
    assert peers_table([], [], [ours], "llama3.2-1b").count("\n") == 1
