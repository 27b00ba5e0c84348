"""DeepSeek V3 and Llama 4 against transformers: same weights, same experts, same logits."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from dispatched import Operators
from hugging_face import copied
from mixture_models import (
    DEEPSEEK,
    LLAMA4,
    SHALLOW_DEEPSEEK,
    SHALLOW_LLAMA4,
    SHORT_LLAMA4,
    VOCAB,
    hugging_face,
    logits_and_choices,
)
from step_engines import make_engine

from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.kernels import routed_experts as experts_kernel
from inference_benchmark.model.kernel_choice import KernelConfig, needs_mask
from inference_benchmark.model.routing import balance, tokens_per_expert
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS as PRESETS
from inference_benchmark.options import engine_checks, weight_formats
from inference_benchmark.output_check import check_before
from inference_benchmark.session.planning import choose_kernels

PROMPT, DECODE_STEPS = 24, 32
CACHE = PROMPT + DECODE_STEPS
TOLERANCE = 1e-4
OURS = KernelConfig(attention="flash_decode", linear="gemv", experts="fused")
MODELS = pytest.mark.parametrize("config", [DEEPSEEK, LLAMA4], ids=lambda config: config.name)


def assert_same(config, name, options, batch=2, prompt=PROMPT) -> None:
    """prompt: the length of what is prefilled; 0: steps from an empty cache, no prefill."""
    reference = hugging_face(config)
    decoder = copied(config, reference.state_dict(), CACHE)
    engine = make_engine(name, decoder, batch, PROMPT, CACHE, **options)
    ids = torch.randint(VOCAB, (batch, CACHE), generator=torch.Generator().manual_seed(1))
    logits, choices = logits_and_choices(reference, ids)
    if prompt:
        engine.prefill(ids[:, :prompt])
        assert_close(engine.logits, logits[:, prompt - 1])
        assert_chosen(engine.choices, [choice[:, :prompt] for choice in choices])
    for position in range(prompt, CACHE):
        engine.force(ids[:, position : position + 1], position)
        engine.decode()
        assert_close(engine.logits, logits[:, position])
        assert_chosen(engine.choices, [choice[:, position : position + 1] for choice in choices])
    engine.compiler_stats()


def assert_close(computed, expected) -> None:
    error = (computed - expected).norm() / expected.norm()
    assert error < TOLERANCE, f"relative error {error:.2g}"


def assert_chosen(choices, expected) -> None:
    assert len(choices) == len(expected) > 0
    for ours, theirs in zip(choices, expected, strict=True):
        assert torch.equal(ours.sort(dim=-1)[0], theirs.flatten(0, 1).sort(dim=-1)[0])


@MODELS
@pytest.mark.parametrize("experts", ["grouped", "loop"])
def test_eager_gives_the_logits_of_transformers(config, experts):
    assert_same(config, "eager", {"kernels": KernelConfig(experts=experts)})


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("config", [DEEPSEEK, LLAMA4, SHORT_LLAMA4], ids=lambda config: config.name)
def test_our_kernels_give_the_logits_of_transformers(config, batch):
    assert_same(config, "eager", {"kernels": OURS}, batch=batch)


@pytest.mark.parametrize("name", ["inductor", "thunder"])
@pytest.mark.parametrize(
    ("config", "kernels"),
    [
        (SHALLOW_DEEPSEEK, KernelConfig()),
        (SHALLOW_LLAMA4, KernelConfig()),
        (SHALLOW_DEEPSEEK, OURS),
        (SHORT_LLAMA4, OURS),
    ],
    ids=["deepseek-torch", "llama4-torch", "deepseek-ours", "llama4-ours"],
)
def test_compilers_give_the_logits_of_transformers(config, name, kernels):
    """Thunder, which takes seconds for each, traces no prompt with our kernels: what is a kernel's
    there is an operator that the step has as well, or one that test_decoder.py looks at."""
    prompt = 0 if (name, kernels) == ("thunder", OURS) else PROMPT
    batch = 1 if kernels == OURS else 2  # for which most kernels are
    assert_same(config, name, {"kernels": kernels}, batch, prompt)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            DEEPSEEK,
            {
                *("gemv", "add_norm", "gemv_swiglu", "latent_decode", "group_limited_route"),
                *("routed_experts", "greedy_token"),
            },
        ),
        (
            LLAMA4,
            {
                *("gemv", "add_norm", "gemv_swiglu", "greedy_token", "flash_decode"),
                *("add_norm_scores", "one_expert_mixture"),
            },
        ),
        (
            SHORT_LLAMA4,
            {
                *("gemv", "add_norm", "gemv_swiglu", "greedy_token", "rope_decode"),
                *("add_norm_scores", "one_expert_mixture"),
            },
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_decode_step_runs_our_operators(config, expected):
    decoder = build_decoder(config, "fp32", "cpu", CACHE)
    engine = make_engine("eager", decoder, 1, PROMPT, CACHE, OURS)
    engine.prefill(torch.randint(VOCAB, (1, PROMPT)))
    with Operators() as operators:
        engine.decode()
    assert set(operators.seen) == expected


def test_latent_attention_without_tiles_of_its_size_is_plain():
    odd = replace(DEEPSEEK, attention=replace(DEEPSEEK.attention, rope_dim=8))
    assert needs_mask(odd.attention, OURS)
    assert not needs_mask(DEEPSEEK.attention, OURS)
    assert_same(odd, "eager", {"kernels": OURS})


# The output gate


def checked(engine_decoder, reference_decoder, precision="fp32") -> dict:
    """The gate, between sorted experts and the plain reference; 12 steps after the prompt."""
    grouped = KernelConfig(experts="grouped")
    engine = make_engine("eager", engine_decoder, 2, PROMPT, PROMPT + 12, grouped)
    generator = torch.Generator().manual_seed(7)
    prompts = [torch.randint(VOCAB, (2, PROMPT), generator=generator) for _ in range(2)]
    return check_before(engine, reference_decoder, prompts, precision, seed=1)


@pytest.fixture(scope="module", params=[DEEPSEEK, LLAMA4], ids=lambda config: config.name)
def decoder(request):
    return build_decoder(request.param, "fp32", "cpu", CACHE)


def test_the_gate_lets_sorted_experts_pass(decoder):
    record = checked(decoder, decoder)
    assert record["passed"], record
    assert record["routing_difference"] == 0


def swap_two(ends):
    """The groups of two experts with rows, in each other's place."""
    sizes = torch.diff(ends, prepend=ends.new_zeros(1))
    first, second = sizes.nonzero().flatten()[:2].tolist()
    changed = ends.clone()
    changed[first] = ends[second]
    changed[second] = ends[first]
    return changed


def start_instead_of_end(ends):
    return torch.cat((ends.new_zeros(1), ends[:-1]))


@pytest.mark.parametrize("fault", [swap_two, start_instead_of_end])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gate_closes_on_wrong_offsets(monkeypatch, decoder, fault, precision):
    right = experts_kernel.end_offsets

    def wrong(experts, num_experts):
        ends = right(experts, num_experts)
        return ends if experts[0] == experts[-1] else fault(ends)

    monkeypatch.setattr(experts_kernel, "end_offsets", wrong)
    record = checked(decoder, decoder, precision)
    assert not record["passed"]


@pytest.mark.parametrize("name", ["expert_gate_up_proj", "expert_down_proj"])
def test_the_gate_closes_on_swapped_experts(decoder, name):
    broken = deepcopy(decoder)
    weight = getattr(broken.layers[-1], name).weight
    weight.copy_(weight.flip(0))
    assert not checked(broken, decoder, "bf16")["passed"]


def test_the_gate_closes_on_a_wrong_router(decoder):
    broken = deepcopy(decoder)
    router = broken.layers[-1].router.weight
    router.copy_(router.flip(0))
    record = checked(broken, decoder, "bf16")
    assert any("chosen otherwise" in failure for failure in record["failures"])


@MODELS
def test_the_gate_stays_open_where_rounding_decides_between_experts(config):
    """In bf16 sorted experts and a loop over them round otherwise, and tip a few choices."""
    decoder = build_decoder(config, "bf16", "cpu", CACHE)
    record = checked(decoder, decoder, "bf16")
    assert record["routing_difference"] < 0.1
    assert record["passed"], record


# What a model can't use


def test_flash_decode_is_chosen_where_tiles_fit():
    request = SimpleNamespace(
        attention="auto",
        linear="auto",
        device="cuda",
        model=DEEPSEEK,
        tensor_parallel=1,
        workload="generation",
    )
    spec = ModeSpec("inductor", (), True, kernels=True)
    for model in (DEEPSEEK, LLAMA4):
        request.model = model
        assert choose_kernels(request, spec) == OURS
    odd = replace(DEEPSEEK, attention=replace(DEEPSEEK.attention, rope_dim=8))
    request.model = odd
    assert choose_kernels(request, spec) == replace(OURS, attention="sdpa")
    request.attention = "flash_decode"
    engine_checks.check_kernels(request, [spec], DEEPSEEK, "cuda")
    with pytest.raises(CannotRun, match="can't serve the attention of small-deepseek"):
        engine_checks.check_kernels(request, [spec], odd, "cuda")


def test_experts_follow_the_linear_layers():
    request = SimpleNamespace(
        attention="auto", linear="auto", device="cuda", model=LLAMA4, tensor_parallel=1
    )
    assert choose_kernels(request, ModeSpec("eager", (), False)) == KernelConfig()
    assert choose_kernels(request, ModeSpec("eager", (), True)) == KernelConfig(attention="matmul")
    assert choose_kernels(request, ModeSpec("eager", (), True, kernels=True)) == OURS
    request.linear = "torch"
    assert choose_kernels(request, ModeSpec("eager", (), True, True)).experts == "grouped"


def test_quantised_weights_are_for_dense_models():
    """Those that an engine makes also for one GPU only, and from weights that are not quantised."""
    spec, dense = ModeSpec("thunder", ("transformerengine",), True), PRESETS["llama3.1-8b"]
    check = weight_formats.check_weight_formats
    check([spec], "bf16", dense, 1)
    with pytest.raises(CannotRun, match="quantised weights are for dense models"):
        check([spec], "bf16", LLAMA4, 1)
    with pytest.raises(CannotRun, match="on one GPU only, not on 2 ranks"):
        check([spec], "bf16", dense, 2)
    plain = ModeSpec("eager", (), False)
    check([plain], "int8", dense, 2)
    with pytest.raises(CannotRun, match="'--precision int8' would leave the experts"):
        check([plain], "int8", LLAMA4, 1)
    with pytest.raises(RequestError, match="can't start from int8"):
        check([plain, spec], "int8", dense, 1)


# How even the routing is


def test_random_routers_spread_tokens(decoder):
    engine = make_engine("eager", decoder, 16, CACHE, CACHE)
    engine.prefill(torch.randint(VOCAB, (16, CACHE), generator=torch.Generator().manual_seed(2)))
    shares = balance(engine.choices, decoder.config.num_experts)
    assert shares["even_share"] <= shares["busiest_share"] < 4 * shares["even_share"]
    assert shares["unused_share"] == 0


def test_balance_by_hand():
    chosen = torch.tensor([[0, 1], [0, 2], [0, 1], [3, 0]])
    assert tokens_per_expert(chosen, 5).tolist() == [4, 2, 1, 1, 0]
    even = torch.tensor([[0, 1], [2, 3], [4, 0], [1, 2]])
    assert balance([chosen, even], 5) == {
        "busiest_share": 0.5,
        "even_share": 0.2,
        "unused_share": pytest.approx(0.1),
    }
