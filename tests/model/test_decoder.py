"""The decoder against transformers: same weights, same logits, prefill and cached decode."""

import pytest
import torch
from hugging_face import copied
from mixture_models import DEEPSEEK, LLAMA4
from step_engines import make_engine
from torch._inductor import metrics
from transformers import LlamaConfig, LlamaForCausalLM

from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.parts import (
    DenseFeedForward,
    GroupedQueryAttention,
    Llama3RopeScaling,
    Rope,
)
from inference_benchmark.model.rope import rope_tables
from inference_benchmark.model.weights import build_decoder

DECODE_STEPS = 32
PROMPT = 24
CACHE = 64
TOLERANCE = 1e-5
OURS = KernelConfig(attention="flash_decode", linear="gemv")

# Few positions of the original context, so that the stretched, the kept and the blended
# frequencies of the scaling all occur.
SCALING = Llama3RopeScaling(factor=8.0, original_context_length=32)
SMALL = ModelConfig(
    "small",
    vocab_size=97,
    hidden_size=64,
    num_layers=2,
    attention=GroupedQueryAttention(num_heads=8, num_kv_heads=2, head_dim=16),
    feed_forward=DenseFeedForward(160),
    context_length=256,
    rope=Rope(10000.0, SCALING),
)
TIED = ModelConfig(
    "tied",
    vocab_size=97,
    hidden_size=64,
    num_layers=2,
    attention=GroupedQueryAttention(num_heads=4, num_kv_heads=4, head_dim=16),
    feed_forward=DenseFeedForward(96),
    context_length=256,
    rope=Rope(500000.0),
    tied_embeddings=True,
)


def llama(config: ModelConfig) -> LlamaForCausalLM:
    scaling = config.rope.scaling
    rope = {"rope_type": "default", "rope_theta": config.rope.theta}
    if scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    torch.manual_seed(0)
    reference = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.feed_forward.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.attention.num_heads,
            num_key_value_heads=config.attention.num_kv_heads,
            head_dim=config.attention.head_dim,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters=rope,
            rope_scaling=rope if scaling is not None else None,
            rope_theta=config.rope.theta,
            tie_word_embeddings=config.tied_embeddings,
            attn_implementation="eager",
        )
    ).eval()
    for module in reference.modules():  # norms of ones would hide a swapped or a missing one
        if "RMSNorm" in type(module).__name__:
            torch.nn.init.normal_(module.weight, 1.0, 0.2)
    return reference


@torch.inference_mode()
def assert_same_logits(engine: StepEngine, reference: LlamaForCausalLM, batch: int) -> None:
    torch.manual_seed(1)
    ids = torch.randint(97, (batch, PROMPT + DECODE_STEPS))
    engine.prefill(ids[:, :PROMPT])
    output = reference(ids[:, :PROMPT], use_cache=True)
    assert_close(engine.logits, output.logits[:, -1])
    for step in range(DECODE_STEPS):
        position = PROMPT + step
        token = ids[:, position : position + 1]
        engine.force(token, position)
        engine.decode()
        output = reference(token, past_key_values=output.past_key_values, use_cache=True)
        assert_close(engine.logits, output.logits[:, -1])


def assert_close(computed, expected) -> None:
    error = (computed - expected).norm() / expected.norm()
    assert error < TOLERANCE, f"relative error {error:.2g}"


@pytest.mark.parametrize("config", [SMALL, TIED], ids=["gqa-scaled", "mha-tied"])
@pytest.mark.parametrize("batch", [1, 3])
def test_eager_gives_the_logits_of_transformers(config, batch):
    reference = llama(config)
    decoder = copied(config, reference.state_dict(), CACHE)
    engine = make_engine("eager", decoder, batch, PROMPT, CACHE)
    assert_same_logits(engine, reference, batch)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("inductor", {"kernels": KernelConfig(attention="matmul")}),
        ("inductor", {"kernels": KernelConfig(), "compile_scope": "model"}),
        ("thunder", {"kernels": KernelConfig(attention="matmul"), "executors": ("inductor",)}),
        ("thunder", {"kernels": KernelConfig(), "executors": ("dynamo",)}),
        ("eager", {"kernels": OURS}),
        ("inductor", {"kernels": OURS}),
        ("thunder", {"kernels": OURS}),
    ],
    ids=[
        "inductor",
        "inductor-model",
        "thunder-inductor",
        "thunder-dynamo",
        "eager-flash",
        "inductor-flash",
        "thunder-flash",
    ],
)
def test_modes_give_the_logits_of_transformers(name, options):
    reference = llama(SMALL)
    decoder = copied(SMALL, reference.state_dict(), CACHE)
    engine = make_engine(name, decoder, 2, PROMPT, CACHE, **options)
    assert_same_logits(engine, reference, batch=2)
    engine.compiler_stats()


@torch.inference_mode()
def assert_same_steps(engine: StepEngine, reference: LlamaForCausalLM, steps: int) -> None:
    """From an empty cache, so that no prompt is compiled."""
    ids = torch.randint(97, (2, steps), generator=torch.Generator().manual_seed(1))
    logits = reference(ids).logits
    for position in range(steps):
        engine.force(ids[:, position : position + 1], position)
        engine.decode()
        assert_close(engine.logits, logits[:, position])


def test_steps_that_inductor_generates_code_for():
    config = SMALL.with_layers(1)
    reference = llama(config)
    decoder = copied(config, reference.state_dict(), CACHE)
    engine = make_engine("inductor", decoder, 2, PROMPT, CACHE, generates_code=True)
    before = metrics.generated_kernel_count
    assert_same_steps(engine, reference, 4)
    assert metrics.generated_kernel_count > before


def test_thunder_traces_a_layer_once_for_all_layers():
    reference = llama(SMALL)
    decoder = copied(SMALL, reference.state_dict(), CACHE)
    engine = make_engine("thunder", decoder, 2, PROMPT, CACHE)
    for _ in range(2):
        assert_same_logits(engine, reference, batch=2)
    # begin, layer and finish, each for a prompt and for a token
    assert engine.compile_count() == 6


def test_thunder_traces_a_model_as_a_whole():
    config = SMALL.with_layers(1)  # thunder takes seconds for each
    reference = llama(config)
    decoder = copied(config, reference.state_dict(), CACHE)
    engine = make_engine("thunder", decoder, 2, PROMPT, CACHE, compile_scope="model")
    assert_same_steps(engine, reference, DECODE_STEPS)
    assert engine.compile_count() == 1


def test_weights_are_finite_seeded_and_keep_activations_near_unit_variance():
    decoder = build_decoder(SMALL, "fp32", "cpu", CACHE, seed=3)
    again = build_decoder(SMALL, "fp32", "cpu", CACHE, seed=3)
    other = build_decoder(SMALL, "fp32", "cpu", CACHE, seed=4)
    for (name, a), b, c in zip(
        decoder.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.isfinite(a).all(), name
        assert torch.equal(a, b), name
        assert not torch.equal(a, c), name
        assert a.std() > 0, name
    engine = make_engine("eager", decoder, 1, PROMPT, CACHE)
    engine.prefill(torch.arange(PROMPT)[None])
    assert 0.3 < engine.logits.std() < 3


def test_rope_scaling_by_hand():
    """One slow, one fast and one blended frequency, worked out from the published rule."""
    rope = Rope(10000.0, Llama3RopeScaling(8.0, 1.0, 4.0, 8192))
    cos, sin = rope_tables(rope, 128, 2, torch.float32, "cpu")
    inverse = [10000.0 ** (-2 * i / 128) for i in range(64)]
    # i = 63: wavelength 2 pi 8660 > 8192: stretched by 8; i = 0: wavelength 6.3: kept
    assert cos[1, 63] == pytest.approx(torch.cos(torch.tensor(inverse[63] / 8)).item())
    assert sin[1, 64] == pytest.approx(torch.sin(torch.tensor(inverse[0])).item())
    # i = 48: wavelength 2 pi 1000 = 6283, 1.3038 turns, blend 0.10127
    turns = 8192 * inverse[48] / (2 * 3.141592653589793)
    blend = (turns - 1) / 3
    assert 0 < blend < 1
    expected = inverse[48] * (blend + (1 - blend) / 8)
    assert sin[1, 64 + 48] == pytest.approx(expected, rel=1e-4)
    assert sin[1, 48] == -sin[1, 64 + 48]


def _outputs(decoder) -> list[torch.Tensor]:
    """Logits of a prefill and of three decode steps."""
    engine = make_engine("eager", decoder, 2, PROMPT, CACHE)
    engine.prefill(torch.arange(2 * PROMPT).reshape(2, PROMPT) % decoder.config.vocab_size)
    outputs = [engine.logits.clone()]
    for _ in range(3):
        engine.decode()
        outputs.append(engine.logits.clone())
    return outputs


@pytest.mark.parametrize("config", [SMALL, TIED, DEEPSEEK, LLAMA4], ids=lambda config: config.name)
def test_a_prefix_is_the_model_with_that_many_layers_in_the_same_memory(config):
    deep = build_decoder(config, "fp32", "cpu", CACHE)
    prefix = deep.prefix(config.num_layers - 1)
    assert prefix.config == config.with_layers(config.num_layers - 1)
    shallow = build_decoder(prefix.config, "fp32", "cpu", CACHE, seed=1)
    shallow.load_state_dict(prefix.state_dict())
    for ours, built in zip(_outputs(prefix), _outputs(shallow), strict=True):
        assert torch.equal(ours, built)
    held = {tensor.data_ptr() for tensor in (*deep.parameters(), *deep.buffers())}
    assert {tensor.data_ptr() for tensor in (*prefix.parameters(), *prefix.buffers())} < held
    assert len(deep.layers) == config.num_layers
