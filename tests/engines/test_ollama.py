"""Ollama, as a scripted server speaks its API: tokens, times, and everything that can go wrong."""

import json
import socket

import pytest
import torch
from ollama_server import fake_ollama

from inference_benchmark import benchmark_inference
from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.ollama import OllamaEngine
from inference_benchmark.engines.ollama_client import OllamaClient, OllamaError
from inference_benchmark.engines.stream_engine import WrongCount
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.gguf.container import read_gguf
from inference_benchmark.model.gguf.vocabulary import text_of
from inference_benchmark.model.gguf.writer import write_gguf
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.session.weight_files import WeightFiles

MODEL = MODELS["llama-tiny"].with_layers(1)
INPUT, OUTPUT = 12, 6


@pytest.fixture
def server(tmp_path):
    with fake_ollama(tmp_path) as server:
        yield server


@pytest.fixture
def files():
    files = WeightFiles(build_decoder(MODEL, "fp32", "cpu", 64))
    yield files
    files.close()


def opened(server, files) -> OllamaEngine:
    plan = EnginePlan(1, INPUT, INPUT + OUTPUT, ollama_url=server.url)
    return OllamaEngine(plan, Resources(device=torch.device("cpu"), files=files))


def prompt(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(MODEL.vocab_size, (1, INPUT), generator=generator)


# What it asks for, and what it makes of the answer


def test_the_model_is_made_of_a_blob_and_forgotten_at_the_end(server, files):
    with opened(server, files):
        assert list(server.models) == ["inference-benchmark"]
        path, created = server.requests[0]
        assert path == "/api/create"
        assert list(created["files"].values()) == list(server.blobs)
    assert not server.models
    assert [path for path, _ in server.requests][-2:] == ["/api/generate", "/api/delete"]
    assert server.requests[-2][1]["keep_alive"] == 0
    with opened(server, files):  # the blob is there already
        assert len(server.blobs) == 1


def test_a_request_asks_for_this_prompt_greedily_and_for_no_more(server, files):
    with opened(server, files) as engine:
        engine.run(prompt(), OUTPUT)
    request = server.requests[-3][1]
    assert (request["raw"], request["stream"]) == (True, True)
    assert request["prompt"] == text_of(prompt()[0].tolist())
    options = request["options"]
    assert (options["num_predict"], options["temperature"], options["repeat_penalty"]) == (6, 0, 1)
    assert options["num_ctx"] > INPUT + OUTPUT
    assert options["num_gpu"] == 0


def test_tokens_times_and_the_servers_counters(server, files):
    server.gap_s = 0.02
    with opened(server, files) as engine:
        stream = engine.run(prompt(), OUTPUT)
        assert engine.server_runs == [
            {
                "load_s": 1e-6,
                "prompt_eval_s": 0.005,
                "eval_s": 0.012,
                "total_s": 0.009,
                "s_per_step": pytest.approx(0.012 / 5),
            }
        ]
        assert engine.facts()["server_runs"] is engine.server_runs
    assert len(stream.tokens[0]) == OUTPUT
    assert len(set(stream.token_times_s)) == OUTPUT  # line by line,
    assert stream.token_times_s[-1] >= (OUTPUT - 1) * server.gap_s  # as the server sends them


def test_a_line_may_bring_several_tokens(server, files):
    server.answer = lambda lines: [
        {"response": "".join(line["response"] for line in lines[:4]), "done": False},
        *lines[4:],
    ]
    with opened(server, files) as engine:
        stream = engine.run(prompt(), OUTPUT)
    assert len(stream.tokens[0]) == OUTPUT
    assert len(set(stream.token_times_s[:4])) == 1


def test_through_the_command_line_the_tokens_are_checked(server, capsys):
    code = run(server.url, "--json")
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    (cell,) = [cell for cell in result["cells"] if cell["mode"] == "ollama"]
    assert code == 0
    assert cell["output_check"]["passed"]
    assert cell["output_check"]["checked"] == ["tokens"]
    assert cell["engine"]["weights"] == "copy"
    compiler = cell["options"]["compiler"]
    assert compiler["clock"] == "wall, over HTTP"
    runs = compiler["server_runs"]  # two first calls, the check, a warm-up, two timed
    assert len(runs) == 2 + 1 + 1 + len(cell["samples"]["round"])


def test_a_file_of_model_path_goes_to_it_as_it_is_stored(server, tmp_path, capsys):
    path = tmp_path / "mine.gguf"
    write_gguf(build_decoder(MODEL, "fp32", "cpu", 64), path, "q8_0")
    flags = ["--model-path", str(path), "--json"]
    code = run(server.url, *flags, mode="ollama+stored", layers=())
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    (cell,) = [cell for cell in result["cells"] if cell["mode"] == "ollama"]
    assert code == 0
    assert cell["label"] == "ollama+stored b1"
    assert cell["output_check"]["passed"]
    assert (cell["weights"]["format"], cell["weights"]["storage_bits"]) == ("q8_0", 8.5)
    (uploaded,) = server.blobs.values()
    for name, tensor in read_gguf(path).tensors.items():
        assert path.read_bytes()[tensor.offset :][: tensor.num_bytes] in uploaded, name


def run(url: str, *arguments: str, mode: str = "ollama", layers=("--num-layers", "1")) -> int:
    return benchmark_inference.main(
        ["--mode", mode, "--ollama-url", url, "--device", "cpu", "--precision", "fp32"]
        + [*layers, "--input-length", "12", "--output-length", "6", "--quiet"]
        + ["--num-iterations", "2", "--warmup-iterations", "1", *arguments]
    )


# What can go wrong


def cut_short(lines: list[dict]) -> list[dict]:
    return [*lines[:3], lines[-1] | {"eval_count": 3, "done_reason": "stop"}]


def another_count(lines: list[dict]) -> list[dict]:
    return [*lines[:-1], lines[-1] | {"eval_count": 5}]


def half_a_prompt(lines: list[dict]) -> list[dict]:
    return [*lines[:-1], lines[-1] | {"prompt_eval_count": 6}]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (cut_short, WrongCount, r"generated 3 tokens and sent 3 of 6 \(done_reason stop\)"),
        (another_count, WrongCount, "generated 5 tokens and sent 6 of 6"),
        (half_a_prompt, WrongCount, "read 6 tokens of a prompt of 12"),
        (lambda lines: lines[:-1], OllamaError, "ended after 6 tokens, before it was done"),
        (lambda lines: [{"error": "no\x1b memory"}], OllamaError, "the server says: no"),
        (lambda lines: [{"response": "A"}], OllamaError, r"U\+0041 is no token's character"),
        (lambda lines: [["a"]], OllamaError, "not JSON"),
    ],
)
def test_a_wrong_answer_is_no_run(server, files, answer, error, words):
    server.answer = answer
    with opened(server, files) as engine, pytest.raises(error, match=words):
        engine.run(prompt(), OUTPUT)


def test_a_disconnect_is_no_run_and_the_next_one_goes_on(server, files):
    with opened(server, files) as engine:
        server.dies_after = 3
        with pytest.raises(OllamaError, match="left within an answer|before it was done"):
            engine.run(prompt(), OUTPUT)
        server.dies_after = None
        assert len(engine.run(prompt(1), OUTPUT).tokens[0]) == OUTPUT


@pytest.mark.parametrize(("path", "status"), [("/api/create", 500), ("/api/blobs", 400)])
def test_a_server_that_refuses_the_model_is_named(server, files, path, status):
    server.status = {path: status}
    with pytest.raises(
        CannotRun, match=f"can't have this model.*answers {status}.*said the script"
    ):
        opened(server, files)


def test_a_model_that_is_gone_fails_the_cell_only(server, files):
    with opened(server, files) as engine:
        server.status = {"/api/generate": 404}
        with pytest.raises(OllamaError, match="/api/generate answers 404"):
            engine.run(prompt(), OUTPUT)


def test_a_silent_server_is_not_waited_for_without_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = OllamaClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(OllamaError, match="no answer: timed out"):
            client.version()


def refused(capsys, *arguments: str) -> tuple[int, str]:
    code = benchmark_inference.main([*arguments, "--device", "cpu", "--quiet"])
    (line,) = capsys.readouterr().err.strip().splitlines()
    return code, line


def test_without_a_server_it_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"  # nobody listens there any more
    code, line = refused(capsys, "--mode", "ollama", "--ollama-url", url)
    assert code == 3
    assert f"needs Ollama's server at {url}: no answer: Connection refused; start it with" in line


def test_what_is_no_ollama_is_named(server, capsys):
    server.status = {"/api/version": 404}
    code, line = refused(capsys, "--mode", "ollama", "--ollama-url", server.url)
    assert code == 3
    assert "/api/version answers 404 Not Found" in line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--mode", "eager", "--ollama-url", "http://a:1"],
            2,
            "does nothing without --mode ollama",
        ),
        (["--mode", "ollama", "--batch-size", "2"], 3, "runs batch 1 only"),
    ],
)
def test_requests_that_make_no_sense_come_before_the_server(capsys, arguments, code, words):
    exit_code, line = refused(capsys, *arguments)
    assert (exit_code, words in line) == (code, True)
