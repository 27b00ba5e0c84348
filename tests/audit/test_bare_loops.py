"""Bare loops: which call's end is a first token's time and the last one's, on scripted engines and real
ones."""

import ctypes
import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from foreign_engines import PYTHONS, fp32_decoder, skip_unless_here

from audit import bare_loops
from inference_benchmark.model.checkpoint_export import export_config, export_safetensors
from inference_benchmark.model.gguf.writer import write_gguf

INPUT, OUTPUT, BATCH = 5, 4, 3
VOCAB = 50
PROMPTS = [[10 * sequence + place for place in range(INPUT)] for sequence in range(BATCH)]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where an engine computes."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(bare_loops, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


@pytest.fixture
def vllm_steps(monkeypatch, clock):
    """A package vllm whose step() takes a second and returns what the list says: by request, how many
    tokens it has since."""
    steps: list[list[int]] = []
    requests: dict[str, dict] = {}

    def add_request(name, prompt, sampling):
        assert sampling.max_tokens == OUTPUT
        assert sampling.ignore_eos
        requests[name] = prompt

    def step():
        clock.now += 1
        num_new = steps[engine.taken % len(steps)]
        engine.taken += 1
        outputs = [
            SimpleNamespace(request_id=name, outputs=[SimpleNamespace(token_ids=[7] * count)])
            for name, count in zip(requests, num_new, strict=True)
            if count is not None
        ]
        if engine.taken % len(steps) == 0:
            requests.clear()
        return outputs

    engine = SimpleNamespace(
        add_request=add_request,
        step=step,
        has_unfinished_requests=lambda: bool(requests),
        requests=requests,
        taken=0,
    )
    vllm, parameters = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    vllm.LLM = lambda **arguments: SimpleNamespace(llm_engine=engine)
    vllm.SamplingParams = SimpleNamespace
    parameters.RequestOutputKind = SimpleNamespace(DELTA="delta")
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "0")  # put back afterwards
    return steps


def vllm_run(tmp_path):
    return bare_loops.vllm_loop(str(tmp_path), (INPUT, OUTPUT), BATCH, "cpu")


def test_vllms_first_token_is_there_when_each_request_has_one(vllm_steps, tmp_path):
    nothing_yet = [None] * BATCH  # the asynchronous lag
    vllm_steps += [nothing_yet, [1, None, 1], [1, 1, 1], [1, 1, 1], [1, 2, 1]]
    run = vllm_run(tmp_path)
    assert run(PROMPTS) == (3.0, 5.0)
    assert run(PROMPTS) == (3.0, 5.0)  # requests have new names


def test_another_number_of_vllms_tokens_is_no_run(vllm_steps, tmp_path):
    vllm_steps += [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0]]
    with pytest.raises(AssertionError):
        vllm_run(tmp_path)(PROMPTS)


class LlamaCpp(ModuleType):
    """llama.cpp's functions; a decode takes a second, and the token after t is t + 1."""

    LLAMA_FLASH_ATTN_TYPE_ENABLED = 1

    def __init__(self, clock):
        super().__init__("llama_cpp")
        self.clock, self.decoded, self.kept = clock, [], []

    def __getattr__(self, name):
        if not name.startswith("llama_"):
            raise AttributeError(name)
        return lambda *arguments: SimpleNamespace(n_batch=1)

    def llama_vocab_n_tokens(self, vocab):
        return VOCAB

    def llama_batch_init(self, size, embedding, sequences):
        return SimpleNamespace(
            token=ctypes.cast((ctypes.c_int32 * size)(), ctypes.POINTER(ctypes.c_int32)),
            pos=ctypes.cast((ctypes.c_int32 * size)(), ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=[0] * size,
            seq_id=[[None] for _ in range(size)],
            logits=[None] * size,
        )

    def llama_decode(self, context, batch):
        self.clock.now += 1
        places = range(batch.n_tokens)
        sequences = [batch.seq_id[place][0] for place in places]
        rows = zip(
            batch.token[: batch.n_tokens], batch.pos[: batch.n_tokens], sequences, strict=True
        )
        self.decoded.append(list(rows))
        self.logits = {place: batch.token[place] + 1 for place in places if batch.logits[place]}
        return 0

    def llama_get_logits_ith(self, context, place):
        row = (ctypes.c_float * VOCAB)()
        row[self.logits[place]] = 1.0
        self.kept.append(row)
        return ctypes.cast(row, ctypes.POINTER(ctypes.c_float))


def test_llama_cpp_gets_each_token_at_its_place(monkeypatch, clock):
    engine = LlamaCpp(clock)
    monkeypatch.setitem(sys.modules, "llama_cpp", engine)
    run = bare_loops.llama_cpp_loop("folder", (INPUT, OUTPUT), BATCH, "cpu")
    for _ in range(2):
        engine.decoded.clear()
        assert run(PROMPTS) == (1.0, float(OUTPUT))
        prompt, *steps = engine.decoded
        assert prompt == [
            (token, position, sequence)
            for sequence, tokens in enumerate(PROMPTS)
            for position, token in enumerate(tokens)
        ]
        assert steps == [
            [(tokens[-1] + step, INPUT + step - 1, row) for row, tokens in enumerate(PROMPTS)]
            for step in range(1, OUTPUT)
        ]


def test_medians_are_of_each_runs_own_times():
    flags = SimpleNamespace(
        engine="vllm",
        folder="/somewhere/llama3.2-1b",
        input_length=INPUT,
        output_length=OUTPUT,
        batch_size=BATCH,
        device="cpu",
        no_stream=False,
    )
    # Of the others, (4 - 1) / 3 = 1, (9 - 3) / 3 = 2, (8.5 - 1) / 3 = 2.5.
    record = bare_loops.record(flags, [(1.0, 4.0), (3.0, 9.0), (1.0, 8.5)])
    assert (record["ttft_s"], record["tbot_s"], record["total_s"]) == (1.0, 2.0, 8.5)
    assert record["runs"] == {"first_s": [1.0, 3.0, 1.0], "all_s": [4.0, 9.0, 8.5]}
    assert (record["model"], record["streams"]) == ("llama3.2-1b", True)


def words_of(engine: str, folder, *flags: str) -> list[str]:
    lengths = ["--input-length", str(INPUT), "--output-length", str(OUTPUT)]
    counts = ["--batch-size", str(BATCH), "--runs", "2", "--warmup-runs", "1"]
    return ["bare_loops.py", engine, str(folder), "--device", "cpu", *lengths, *counts, *flags]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    export_config(fp32_decoder("llama3.2-1b", 1), folder)
    return folder


def saved(monkeypatch, tmp_path, *words: str) -> dict:
    path = tmp_path / "loop.json"
    monkeypatch.setattr(sys, "argv", [*words, "--output", str(path)])
    bare_loops.main()
    return json.loads(path.read_text())


TRANSFORMERS = "transformers+static+compile"


def test_transformers_streamer_tells_both_times(monkeypatch, tmp_path, folder):
    loop = saved(monkeypatch, tmp_path, *words_of(TRANSFORMERS, folder))
    runs = loop["runs"]
    assert len(runs["first_s"]) == len(runs["all_s"]) == 2
    for first_s, last_s in zip(runs["first_s"], runs["all_s"], strict=True):
        assert 0 < first_s < last_s
    assert loop["streams"]


def test_without_a_streamer_there_is_a_total_alone(monkeypatch, tmp_path, folder):
    loop = saved(monkeypatch, tmp_path, *words_of(TRANSFORMERS, folder, "--no-stream"))
    assert loop["total_s"] > 0
    assert (loop["ttft_s"], loop["tbot_s"], loop["streams"]) == (None, None, False)
    assert loop["runs"]["first_s"] == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no-stream"], "--no-stream is for transformers"),
        (["--output-length", "1"], "2 at least"),
        ([], "write_model.py makes such a folder"),
    ],
)
def test_what_a_loop_cannot_do_is_refused(monkeypatch, capsys, tmp_path, flags, words):
    monkeypatch.setattr(sys, "argv", words_of("vllm", tmp_path, *flags))
    with pytest.raises(SystemExit) as refusal:
        bare_loops.main()
    assert refusal.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_loops_run_over_engines_that_are_installed(engine, tmp_path):
    skip_unless_here(engine)
    decoder = fp32_decoder("llama3.2-1b", 1)
    export_safetensors(decoder, tmp_path)
    if engine == "llama.cpp":
        write_gguf(decoder, tmp_path / "model.gguf", "fp32")
    _, *words = words_of(engine, tmp_path)
    python = PYTHONS.get(engine, sys.executable)
    done = subprocess.run([python, bare_loops.__file__, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    loop = json.loads(done.stdout.splitlines()[-1])
    assert 0 < loop["ttft_s"] < loop["total_s"]
