"""On a GPU: the gate on what is really timed, captured graphs in bf16 after a thousand tokens."""

import pytest
import torch
from step_engines import make_engine

from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import check_before

pytestmark = pytest.mark.gpu
OURS = KernelConfig(attention="flash_decode", linear="gemv")

PROMPT, CACHE = 1000, 1064
MODEL = MODELS["llama3.1-8b"].with_layers(4)


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(MODEL, "bf16", "cuda", CACHE)


def open_engine(name: str, decoder, batch: int, kernels: KernelConfig) -> StepEngine:
    return make_engine(name, decoder, batch, PROMPT, CACHE, kernels)


def tokens(batch: int) -> torch.Tensor:
    return torch.randint(MODEL.vocab_size, (batch, PROMPT), device="cuda")


def check(decoder, engine: StepEngine, batch: int) -> dict:
    return check_before(engine, decoder, [tokens(batch), tokens(batch)], "bf16", seed=1)


def captured(engine: StepEngine, batch: int) -> StepEngine:
    engine.prefill(tokens(batch))
    engine.decode()
    engine.capture()
    return engine


@pytest.mark.parametrize("kernels", [KernelConfig(), OURS], ids=["torch", "ours"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    "mode",
    ["eager", "inductor", "thunder"],
    ids=["eager", "inductor", "thunder"],
)
def test_captured_graphs_pass_the_gate(decoder, mode, kernels, batch):
    engine = open_engine(mode, decoder, batch, kernels)
    record = check(decoder, captured(engine, batch), batch)
    assert record["passed"], record


@pytest.mark.parametrize("mode", ["eager", "inductor", "thunder"])
def test_captured_prompts_leave_what_launched_ones_do(decoder, mode):
    engine = make_engine(mode, decoder, 1, PROMPT, CACHE, OURS, captures_prompts=True)
    captured(engine, 1)
    prompt = tokens(1)
    engine.prefill(prompt)
    replayed = engine.logits.clone()
    caches = [(k.clone(), v.clone()) for k, v in engine.caches]
    assert engine._prompt_graph is not None
    engine._prompt_graph = None
    engine.reset()
    engine.prefill(prompt)
    assert torch.equal(engine.logits, replayed)
    for cache, before in zip(engine.caches, caches, strict=True):
        assert all(map(torch.equal, cache, before))


def write_one_slot_off(forward, tokens, position, caches):
    return forward(tokens, position, [(k.roll(1, 2), v.roll(1, 2)) for k, v in caches])


def drop_the_write(forward, tokens, position, caches):
    return forward(tokens, position, [(k.clone(), v.clone()) for k, v in caches])


def use_a_stale_position(forward, tokens, position, caches):
    return forward(tokens, (position - 1).clamp(min=0), caches)


def write_into_the_next_slot(forward, tokens, position, caches):
    result = forward(tokens, position, caches)
    for keys, _ in caches:
        after = (position + 1).clamp(max=keys.shape[2] - 1)  # the check goes up to the last slot
        keys.index_copy_(2, after, keys.index_select(2, position))
    return result


@pytest.mark.parametrize(
    "fault",
    [write_one_slot_off, drop_the_write, use_a_stale_position, write_into_the_next_slot],
)
def test_a_fault_inside_a_captured_graph_closes_the_gate(decoder, fault):
    engine = open_engine("eager", decoder, 1, OURS)
    forward = engine.run_decoder

    def faulty(tokens, position, caches):
        if tokens.shape[1] > 1:
            return forward(tokens, position, caches)
        return fault(forward, tokens, position, caches)

    engine.run_decoder = faulty
    record = check(decoder, captured(engine, 1), 1)
    assert not record["passed"]


def test_a_swapped_weight_closes_the_gate(decoder):
    broken = build_decoder(MODEL, "bf16", "cuda", CACHE)
    first, second = broken.layers[1].down_proj.weight, broken.layers[2].down_proj.weight
    first.data, second.data = second.data, first.data
    engine = open_engine("eager", broken, 1, OURS)
    assert not check(decoder, captured(engine, 1), 1)["passed"]


def test_a_graph_replays_at_every_position(decoder):
    """The same tokens, step by step and through the graph, over the edges of attention tiles."""
    plain = open_engine("eager", decoder, 1, OURS)
    graphed = captured(open_engine("eager", decoder, 1, OURS), 1)
    prompt = tokens(1)
    for engine in (plain, graphed):
        engine.prefill(prompt)
    for _ in range(CACHE - PROMPT):
        plain.decode()
        graphed.decode()
        assert torch.equal(plain.logits, graphed.logits)
        assert torch.equal(plain.token, graphed.token)
