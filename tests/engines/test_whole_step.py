"""A decode step as one compiled function, and tokens that are drawn: the same in every engine."""

from functools import partial

import pytest
import torch
from step_engines import make_engine

from inference_benchmark.engines.inductor import InductorEngine
from inference_benchmark.model.sampler import advantages
from inference_benchmark.model.sampling import Sampling
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import TimedRun, check_before, check_timed_runs
from inference_benchmark.output_check.choice import decide, wrong_choices

DRAWN = Sampling(temperature=0.8, top_k=20, seed=3)
LENGTH, STEPS = 9, 8


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(MODELS["llama-tiny"].with_layers(1), "fp32", "cpu", LENGTH + STEPS)


def generated(engine, prompt) -> torch.Tensor:
    engine.reset()
    engine.prefill(prompt)
    for _ in range(STEPS - 1):
        engine.decode()
    return engine.tokens[:, LENGTH : LENGTH + STEPS]


def prompts(seed: int = 0) -> torch.Tensor:
    return torch.randint(1000, (2, LENGTH), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampling", [None, DRAWN], ids=["greedy", "drawn"])
def test_a_whole_step_chooses_what_eager_chooses(decoder, sampling, monkeypatch):
    """Traced and made functional as for inductor, whose code generator takes a minute on a CPU."""
    traced = partial(torch.compile, backend="aot_eager", fullgraph=True, dynamic=False)
    monkeypatch.setattr(InductorEngine, "_compile", lambda self, function: traced(function))
    size = (2, LENGTH, LENGTH + STEPS)
    plain = make_engine("eager", decoder, *size, sampling=sampling)
    whole = make_engine("inductor", decoder, *size, sampling=sampling, compile_scope="step")
    expected = generated(plain, prompts())
    assert torch.equal(generated(whole, prompts()), expected)
    assert torch.equal(generated(whole, prompts()), expected)  # a second time, of the same seed
    assert int(whole.position) == LENGTH + STEPS - 1
    assert whole.compile_count() > 0


def test_other_seeds_draw_other_tokens(decoder):
    size = (2, LENGTH, LENGTH + STEPS)
    drawn = [
        generated(
            make_engine("eager", decoder, *size, sampling=Sampling(1.0, None, seed)), prompts()
        )
        for seed in (1, 2)
    ]
    assert not torch.equal(*drawn)
    assert not torch.equal(drawn[0][0], drawn[0][1])  # nor are two sequences alike


def test_drawn_tokens_pass_the_check_and_those_of_another_distribution_do_not(decoder):
    engine = make_engine("eager", decoder, 2, LENGTH, LENGTH + STEPS, sampling=DRAWN)
    before = check_before(engine, decoder, [prompts(1), prompts(2)], "fp32", seed=0)
    assert before["passed"], before["failures"]
    generated(engine, prompts(3))
    run = TimedRun.of(engine, prompts(3), STEPS)
    assert check_timed_runs(engine, decoder, [run], "fp32", before)["passed"]
    hotter = make_engine(
        "eager", decoder, 2, LENGTH, LENGTH + STEPS, sampling=Sampling(8.0, 20, DRAWN.seed)
    )
    generated(hotter, prompts(3))
    wrong = TimedRun.of(hotter, prompts(3), STEPS)
    assert not check_timed_runs(engine, decoder, [wrong], "fp32", before)["passed"]


def test_a_choice_is_made_again_from_its_seed():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    position = torch.tensor([7])
    scores = advantages(logits, DRAWN.temperature, torch.tensor([DRAWN.seed, 7]))
    among = logits >= logits.topk(20).values[:, -1:]
    tokens = scores.masked_fill(~among, float("-inf")).argmax(dim=-1, keepdim=True)
    assert int(wrong_choices(logits, tokens, DRAWN, position)) == 0
    assert int(wrong_choices(logits, tokens, DRAWN, position + 1)) > 0
    second = decide(None, torch.tensor([[1.0, 3.0, 2.5]]), torch.tensor([2]), 0)
    assert (float(second.shortfall), float(second.margin)) == (0.5, 0.5)


def test_a_token_outside_the_largest_k_is_wrong_but_not_one_that_ties_with_them():
    logits = torch.tensor([[4.0, 2.0, 2.0, -9.0]])
    two = Sampling(1.0, 2, 0)
    for token, slack, expected in ((2, 0.1, False), (3, 0.1, True)):
        deciding = decide(two, logits, torch.tensor([token]), torch.tensor([5]), slack=slack)
        assert bool(deciding.shortfall == torch.inf) == expected
