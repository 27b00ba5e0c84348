"""--prompt: a model that was trained on one answer gives it, streamed, timed and checked."""

import json
import re
from functools import partial

import pytest
import torch
from step_engines import make_engine
from trained_model import ANSWER, QUESTION, trained_folder

from inference_benchmark import benchmark_inference
from inference_benchmark.command.answer import generate
from inference_benchmark.engines.inductor import InductorEngine
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.model.gguf.writer import write_gguf
from inference_benchmark.model.sampling import Sampling
from inference_benchmark.model.tokenizer import Tokenizer
from inference_benchmark.model.weights import empty_decoder
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.question import Question
from inference_benchmark.options.resolution import resolve


@pytest.fixture
def trained():
    return trained_folder()


@pytest.fixture
def copied(trained, tmp_path):
    """To be damaged."""
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def ask(
    folder, *arguments: str, question: str = QUESTION, most: int = 100, mode: str = "eager"
) -> int:
    """The most likely tokens, unless a temperature is given."""
    if "--temperature" not in arguments:
        arguments += ("--sampling", "greedy")
    return benchmark_inference.main(
        ["--model-path", str(folder), "--prompt", question, "--device", "cpu", "--mode", mode]
        + ["--precision", "fp32", "--max-new-tokens", str(most), *arguments]
    )


def test_the_answer_is_the_trained_one_and_a_line_says_how_long_it_took(trained, capsys):
    assert ask(trained) == 0
    answer, _, line = capsys.readouterr().out.strip().splitlines()
    assert answer == ANSWER
    times = re.fullmatch(
        r"\[eager: (\d+) \+ (\d+) tokens, ended by itself; TTFT ([\d.]+) ms, TBOT ([\d.]+) ms, "
        r"([\d.]+) tokens/s; checked; ready in [\d.]+ s\]",
        line,
    )
    prompt, count, ttft_ms, tbot_ms, rate = map(float, times.groups())
    assert (prompt, count) == (len(QUESTION) + 2, len(ANSWER) + 1)  # the template's, the end's
    assert rate == pytest.approx(count * 1e3 / (ttft_ms + (count - 1) * tbot_ms), rel=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["eager+graphs", "inductor", "thunder"])
def test_every_engine_gives_the_answer(trained, capsys, mode):
    flags = ["--model-path", str(trained), "--prompt", QUESTION, "--mode", mode, "--quiet"]
    assert benchmark_inference.main(flags) == 0
    assert capsys.readouterr().out.strip() == ANSWER


def test_a_traced_step_draws_the_same_answer(trained, capsys, monkeypatch):
    """Inductor's engine without its code generator, which takes a minute on a CPU."""
    traced = partial(torch.compile, backend="aot_eager", fullgraph=True, dynamic=False)
    monkeypatch.setattr(InductorEngine, "_compile", lambda self, function: traced(function))
    tokenizer = Tokenizer(trained)
    ids = tokenizer.encode(QUESTION)
    decoder = empty_decoder(read_model(trained), "fp32", "cpu")
    load_checkpoint(decoder, trained)
    decoder.set_context_length(128)
    options = {"sampling": Sampling(0.85, 40, seed=3), "compile_scope": "model"}
    engine = make_engine("inductor", decoder, 1, len(ids), 128, **options)
    question = Question(tokenizer, tuple(ids), 100)
    answer = generate(engine, torch.tensor([ids]), question, question.max_new_tokens)
    assert capsys.readouterr().out == ANSWER
    assert answer.ended
    assert len(answer.token_times_s) == len(answer.tokens) == len(ANSWER) + 1


def test_each_token_has_a_line(trained, capsys):
    assert ask(trained, "--timing", most=5) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^ +(\d+) +([\d.]+) +([\d.]+)  '(.)'$", out, re.MULTILINE)
    assert [number for number, *_ in rows] == ["1", "2", "3", "4", "5"]
    assert "".join(text for *_, text in rows) == ANSWER[:5]
    gaps = [float(gap) for _, _, gap, _ in rows]
    assert sum(gaps) == pytest.approx(float(rows[-1][1]), abs=0.02)
    assert "20 + 5 tokens, cut: --max-new-tokens; TTFT" in out


def test_a_wrong_answer_has_no_speed(trained, capsys, monkeypatch):
    """An engine that forgets the prompt."""
    from inference_benchmark.engines.eager import EagerEngine

    prefill = EagerEngine.prefill
    monkeypatch.setattr(EagerEngine, "prefill", lambda self, ids: prefill(self, ids * 0 + 5))
    assert ask(trained, most=40) == 1
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert "WRONG OUTPUT, so no times: " in line
    assert "tokens/s" not in line


def test_quiet_prints_the_answer_alone(trained, capsys):
    assert ask(trained, "--quiet") == 0
    assert capsys.readouterr().out.strip() == ANSWER


def test_it_is_drawn_by_seed(copied, capsys):
    """A model that knows one answer gives it at the usual temperature; a hot one says what it likes,
    and the same to the same seed. Both are checked."""
    drawn = []
    for seed in ("3", "3", "4"):
        assert ask(copied, "--temperature", "30", "--top-k", "40", "--seed", seed, most=12) == 0
        drawn.append(capsys.readouterr().out.splitlines()[0])
    assert drawn[0] == drawn[1] != drawn[2]
    flags = ["--model-path", str(copied), "--prompt", QUESTION, "--device", "cpu", "--quiet"]
    assert benchmark_inference.main([*flags, "--mode", "eager", "--precision", "fp32"]) == 0
    assert capsys.readouterr().out.strip() == ANSWER


def test_without_a_template_the_text_goes_in_as_it_is(copied, capsys):
    (copied / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    assert ask(copied, "--quiet", question=f"<ask>{QUESTION}<say>") == 0
    assert capsys.readouterr().out.strip() == ANSWER


def test_templates_and_ends_as_folders_have_them(copied):
    ids = Tokenizer(copied).encode("hi")
    assert Tokenizer(copied).end_ids == {0}
    assert (ids[0], ids[-1]) == (1, 2)
    (copied / "generation_config.json").write_text('{"eos_token_id": [3, 5]}')
    assert Tokenizer(copied).end_ids == {3, 5}
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": "<say>"}]
    (copied / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert Tokenizer(copied).encode("hi") == [2]
    (copied / "chat_template.jinja").write_text("<ask>{{ messages[0]['content'] }}")
    assert Tokenizer(copied).encode("hi") == ids[:-1]


def test_text_comes_in_whole_characters(copied):
    tokenizer = Tokenizer(copied)
    stream = tokenizer.stream()
    pieces = [stream.add(token) for token in tokenizer.encode("é")[1:-1]]
    assert pieces == ["", "é"]


def refused(capsys, folder, *arguments: str, code: int = 3, **more) -> str:
    assert ask(folder, "--quiet", *arguments, **more) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_what_is_missing_is_named(copied, capsys):
    template = '{"chat_template": "{{ raise_exception(\'only tools\') }}"}'
    (copied / "tokenizer_config.json").write_text(template)
    assert "the chat template fails: only tools" in refused(capsys, copied)
    (copied / "tokenizer_config.json").write_text('{"chat_template": "{% if %}"}')
    assert "the chat template fails: " in refused(capsys, copied)
    (copied / "tokenizer_config.json").write_text("[1]")
    assert "tokenizer_config.json holds no JSON object" in refused(capsys, copied)
    (copied / "tokenizer_config.json").unlink()
    assert "--prompt holds no token" in refused(capsys, copied, question="", code=2)
    (copied / "tokenizer.json").write_text("{")
    assert "tokenizer.json can't be read: " in refused(capsys, copied)
    (copied / "tokenizer.json").unlink()
    assert f"{copied} holds no tokenizer.json" in refused(capsys, copied)


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}"]
)
def test_a_template_does_not_get_out_of_its_sandbox(copied, capsys, template):
    (copied / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    line = refused(capsys, copied)
    assert "the chat template fails: access to attribute" in line


def test_another_models_tokenizer_is_named(copied, capsys):
    path = copied / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["Q"] += 10_000
    path.write_text(json.dumps(content))
    line = refused(capsys, copied, question="Q")
    assert "is beyond the vocabulary of 259" in line


def test_a_gguf_file_has_no_tokenizer_here(copied, capsys):
    decoder = empty_decoder(read_model(copied), "fp32", "cpu")
    load_checkpoint(decoder, copied)
    write_gguf(decoder, copied / "model.gguf", "fp32")
    line = refused(capsys, copied / "model.gguf")
    assert "a GGUF file's tokenizer is not read" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "hi"], "--prompt does nothing without --model-path"),
        (["--timing"], "--timing does nothing without --prompt"),
        (["--temperature", "2"], "--temperature does nothing without --sampling or --prompt"),
        (["--max-new-tokens", "3"], "--max-new-tokens does nothing without --prompt"),
        (["--prompt", "hi", "--model-path", "x", "--scenario", "chat"], "--scenario does nothing"),
        (["--prompt", "hi", "--model-path", "x", "--save-results"], "--save-results does nothing"),
        (["--prompt", "hi", "--model-path", "x", "--pytorch-base"], "--pytorch-base does nothing"),
    ],
)
def test_flags_that_do_nothing_are_refused(capsys, arguments, words):
    assert benchmark_inference.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_an_engine_with_its_own_loop_answers_when_all_is_there(trained, capsys):
    assert ask(trained, mode="transformers", most=80) == 0
    answer, _, line = capsys.readouterr().out.strip().splitlines()
    assert answer == ANSWER
    assert f"{len(QUESTION) + 2} + {len(ANSWER) + 1} tokens, ended by itself; TTFT" in line
    line = refused(capsys, trained, "--temperature", "1", mode="transformers", code=2)
    assert "takes the most likely token only: add --sampling greedy" in line
    line = refused(capsys, trained, mode="scripted", code=2)
    assert "mode 'scripted' answers no --prompt" in line


def test_modes_that_answer_are_those_that_are_named(trained):
    """No baseline joins them, as it does where times are compared."""
    flags = ["--model-path", str(trained), "--prompt", "hi", "--device", "cpu"]
    request = resolve(make_parser().parse_args([*flags, "--mode", "thunder", "inductor"]))
    assert [spec.name for spec in request.specs] == ["thunder", "inductor"]
    assert (request.input_length, request.output_length) == (4, 252)
    assert request.drawn == Sampling(0.85, None, 0)


def test_a_question_longer_than_the_context_is_refused(trained, capsys):
    line = refused(capsys, trained, code=2, question="word " * 60)
    assert "has a context of 256" in line
