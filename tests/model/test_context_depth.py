"""A prompt behind a context that is already in the cache, against one prompt over both."""

import pytest
import torch
from mixture_models import DEEPSEEK, LLAMA4, VOCAB
from step_engines import make_engine

from inference_benchmark.engines.inductor import InductorEngine
from inference_benchmark.model.attention import causal
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.parts import DenseFeedForward, GroupedQueryAttention, Rope
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import check_before

BATCH, FURTHER, STEPS = 2, 12, 3
OURS = KernelConfig(attention="flash_decode", linear="gemv")
DENSE = ModelConfig(
    "small",
    vocab_size=VOCAB,
    hidden_size=64,
    num_layers=2,
    attention=GroupedQueryAttention(num_heads=8, num_kv_heads=2, head_dim=16),
    feed_forward=DenseFeedForward(96),
    context_length=128,
    rope=Rope(10000.0),
)


def assert_same(config: ModelConfig, depth: int, name: str, kernels: KernelConfig) -> None:
    """Logits and caches of the prompt and of steps after it."""
    cache_length = depth + FURTHER + STEPS
    decoder = build_decoder(config, "fp32", "cpu", cache_length)
    generator = torch.Generator().manual_seed(depth)
    tokens = torch.randint(VOCAB, (BATCH, depth + FURTHER), generator=generator)
    whole = make_engine("eager", decoder, BATCH, depth + FURTHER, cache_length)
    engine = make_engine(name, decoder, BATCH, FURTHER, cache_length, kernels, context_depth=depth)
    whole.prefill(tokens)
    engine.fill(seed=3)
    for filled, computed in zip(engine.caches, whole.caches, strict=True):
        for tensor, values in zip(filled, computed, strict=True):
            tensor[:, :, :depth] = values[:, :, :depth]
    engine.prefill(tokens[:, depth:])
    for step in range(STEPS):
        torch.testing.assert_close(engine.logits, whole.logits, rtol=1e-4, atol=1e-4)
        end = depth + FURTHER + step
        assert int(engine.position) == end
        assert torch.equal(engine.tokens[:, end : end + 1], engine.token)
        for filled, computed in zip(engine.caches, whole.caches, strict=True):
            for tensor, values in zip(filled, computed, strict=True):
                torch.testing.assert_close(
                    tensor[:, :, :end], values[:, :, :end], rtol=1e-4, atol=1e-4
                )
        engine.decode()
        whole.decode()


@pytest.mark.parametrize("kernels", [KernelConfig(), OURS], ids=["sdpa", "ours"])
@pytest.mark.parametrize(
    ("config", "depth"),
    # Chunks of 16: a prompt that crosses an edge, and one that begins at one.
    [(DENSE, 20), (DEEPSEEK, 20), (LLAMA4, 25), (LLAMA4, 32)],
    ids=lambda value: getattr(value, "name", value),
)
def test_it_gives_what_one_prompt_over_both_gives(config, depth, kernels):
    assert_same(config, depth, "eager", kernels)


def test_thunder_gives_the_same():
    assert_same(DENSE, 20, "thunder", KernelConfig())


def test_what_is_traced_by_torch_compile_gives_the_same(monkeypatch):
    """The tracer and its treatment of updates in place, without inductor's slow compilers."""

    def compile(self, function):
        return torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=False)

    monkeypatch.setattr(InductorEngine, "_compile", compile)
    assert_same(DENSE, 20, "inductor", KernelConfig())


def test_heads_spelt_out_for_a_tracer_give_the_same():
    assert_same(DENSE, 20, "eager", KernelConfig(shared_heads=False))


def test_the_operator_sees_the_last_query_at_the_last_key():
    q, k, v = (torch.randn(2, heads, length, 16) for heads, length in ((4, 5), (2, 9), (2, 9)))
    torch.library.opcheck(causal._continued_operator, (q, k, v))
    padded = torch.cat((torch.zeros(2, 4, 4, 16), q), dim=2)
    whole = causal.causal_attention(padded, k, v)
    torch.testing.assert_close(causal.causal_attention(q, k, v), whole[:, :, 4:])


def test_a_fill_is_the_same_for_every_cache_of_its_shape():
    decoder = build_decoder(DENSE, "fp32", "cpu", 32)
    engine, other = (make_engine("eager", decoder, BATCH, 4, 32, context_depth=8) for _ in range(2))
    engine.fill(seed=1)
    other.fill(seed=1)
    assert torch.equal(engine.caches[1][0], other.caches[1][0])
    assert not torch.equal(engine.caches[0][0], engine.caches[1][0])
    assert engine.caches[1][1].std() == pytest.approx(1.0, abs=0.05)
    other.fill(seed=2)
    assert not torch.equal(engine.caches[1][0], other.caches[1][0])


@pytest.mark.gpu
@pytest.mark.parametrize("value_dim", [64, 32], ids=["grouped", "latent"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_the_operator_on_a_gpu_sees_what_the_reference_sees(dtype, value_dim):
    """Through views of a longer cache, as prompts have them."""
    kv_heads = 2 if value_dim == 64 else 8
    q = torch.randn(2, 8, 40, 64, device="cuda", dtype=dtype)
    k = torch.randn(2, kv_heads, 500, 64, device="cuda", dtype=dtype)[:, :, :300]
    v = torch.randn(2, kv_heads, 500, value_dim, device="cuda", dtype=dtype)[:, :, :300]
    output = causal._continued_operator(q, k, v, 0.3)
    expected = causal._continued_reference(q.double(), k.double(), v.double(), 0.3)
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=tolerance)
    assert output.transpose(1, 2).is_contiguous()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["eager", "inductor", "thunder"])
@pytest.mark.parametrize("kernels", [KernelConfig(), OURS], ids=["sdpa", "ours"])
def test_on_a_gpu_the_check_passes_behind_a_context(name, kernels):
    decoder = build_decoder(MODELS["llama-tiny"].with_layers(2), "bf16", "cuda", 600)
    engine = make_engine(name, decoder, 2, 64, 600, kernels, context_depth=500)
    prompts = [torch.randint(1000, (2, 64), device="cuda") for _ in range(2)]
    engine.fill(0)
    engine.prefill(prompts[0])
    engine.decode()
    engine.capture()
    record = check_before(engine, decoder, prompts, "bf16", seed=1)
    assert record["passed"], record["failures"]
