"""The sampler: its distribution against the exact one, and the same choice however it is compiled."""

import pytest
import torch
from scipy.stats import chisquare

from inference_benchmark.model.sampler import sample, sampler_state

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5, 0.5, -0.5, 3.0, -4.0, 0.25])
DRAWS = 40_000


def expected_counts(temperature: float, top_k: int | None) -> torch.Tensor:
    logits = LOGITS.double() / temperature
    if top_k is not None:
        logits[LOGITS.topk(top_k).values[-1] > LOGITS] = -torch.inf
    return DRAWS * torch.softmax(logits, dim=0)


def p_value(tokens: torch.Tensor, temperature: float, top_k: int | None = None) -> float:
    counts = torch.bincount(tokens.flatten(), minlength=len(LOGITS))
    expected = expected_counts(temperature, top_k)
    taking_part = expected > 0
    assert counts[~taking_part].sum() == 0
    return chisquare(counts[taking_part].numpy(), expected[taking_part].numpy()).pvalue


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.85, None), (2.0, 4), (0.7, 1)])
def test_sequences_of_a_batch_follow_the_distribution(temperature, top_k):
    tokens = sample(LOGITS.expand(DRAWS, -1), temperature, top_k, sampler_state(1))
    assert tokens.shape == (DRAWS, 1)
    assert top_k == 1 or p_value(tokens, temperature, top_k) > 0.001
    if top_k == 1:
        assert (tokens == 7).all()


def test_steps_of_a_run_follow_the_distribution():
    state, steps = sampler_state(5), 2_000
    tokens = []
    for _ in range(steps):
        tokens.append(sample(LOGITS.expand(DRAWS // steps, -1), 1.0, None, state))
        state[1:] += 1
    assert p_value(torch.cat(tokens), 1.0) > 0.001


def test_seeds_follow_the_distribution():
    draws = [sample(LOGITS.expand(20, -1), 1.0, None, sampler_state(seed)) for seed in range(2_000)]
    assert p_value(torch.cat(draws), 1.0) > 0.001


@pytest.mark.parametrize("lag", ["step", "sequence", "seed"])
def test_neighbouring_draws_are_independent(lag):
    """Pairs of draws, 4 x 4 outcomes, each pair as likely as the other."""
    logits = torch.zeros(20_000, 4)
    first = sample(logits, 1.0, None, sampler_state(3))
    state = sampler_state(4 if lag == "seed" else 3)
    state[1] += lag == "step"
    second = sample(logits, 1.0, None, state)
    if lag == "sequence":
        first, second = first[0::2], first[1::2]
    counts = torch.bincount((first * 4 + second).flatten(), minlength=16)
    assert chisquare(counts.numpy()).pvalue > 0.001


def test_a_large_vocabulary_is_used_evenly():
    tokens = sample(torch.zeros(400, 20_000), 1.0, None, sampler_state(2))
    counts = torch.bincount(tokens.flatten() // 2_000, minlength=10)  # 10 equal ranges
    assert chisquare(counts.numpy()).pvalue > 0.001


def test_without_temperature_the_largest_wins():
    assert (sample(LOGITS.expand(3, -1), 0.0, None, sampler_state(0)) == 7).all()


def test_the_same_state_gives_the_same_tokens_and_is_left_alone():
    logits, state = torch.randn(64, 1_000), sampler_state(9)
    tokens = sample(logits, 1.0, None, state)
    assert torch.equal(tokens, sample(logits, 1.0, None, state))
    assert state.tolist() == [9, 0]
    assert not torch.equal(tokens, sample(logits, 1.0, None, sampler_state(10)))


def test_a_traced_step_chooses_the_same():
    def step(logits, state):
        return sample(logits, 0.85, None, state), sample(logits, 0.85, 40, state)

    logits, state = torch.randn(4, 1_000), sampler_state(11)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=False)
    for _ in range(5):
        for tokens, expected in zip(compiled(logits, state), step(logits, state), strict=True):
            assert torch.equal(tokens, expected)
        state[1:] += 1


@pytest.mark.gpu
def test_a_cuda_graph_draws_anew_at_each_replay():
    logits, state = torch.zeros(4, 1_000, device="cuda"), sampler_state(11, "cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tokens = sample(logits, 1.0, None, state)
        state[1:].add_(1)
    state.copy_(sampler_state(11))
    fresh = sampler_state(11, "cuda")
    for _ in range(3):
        graph.replay()
        assert torch.equal(tokens, sample(logits, 1.0, None, fresh))
        fresh[1:] += 1
