"""TensorRT by way of torch-tensorrt: written to its documentation, never run here.

A prompt and a single token each become one network of static shapes, exported with the weights as
constants and built by `torch_tensorrt.dynamo.compile`. TensorRT's networks change no input, so a
step reads the cache as it was, attends to its own key and value apart from it, and puts both out;
PyTorch writes them into the cache. `tensorrt` is the builder's default, in fp32 what is called
unoptimised; `+optimised` has it search at its highest level, in bf16 or fp16.
Settings: https://docs.pytorch.org/TensorRT/user_guide/compilation/compilation_settings.html
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.cache import LayerCache, write_cache
from inference_benchmark.model.decoder import Decoder, DecoderLayer
from inference_benchmark.model.families.llama import is_llama
from inference_benchmark.model.feed_forward.dense import make_network
from inference_benchmark.model.norm import rms_norm
from inference_benchmark.model.rope import apply_rope

_HIGHEST_LEVEL = 5


class TensorrtEngine(StepEngine):
    capabilities = replace(
        StepEngine.capabilities,
        takes_weights=True,
        samples=False,
        devices=frozenset({"cuda"}),
        steps=frozenset({"prefill", "decode"}),
    )

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        self._is_optimised = "optimised" in plan.options
        self._networks: dict[int, Callable] = {}  # built, by the number of tokens
        super().__init__(plan, resources)

    def compile(self, decoder: Decoder) -> Callable:
        weight_format = decoder.weight_format
        if not is_llama(decoder.config) or (weight_format and weight_format.module):
            raise CannotRun("mode 'tensorrt' has networks of Llama's family only, in a base type")
        if self._is_optimised and decoder.norm.weight.dtype == torch.float32:
            raise CannotRun("mode 'tensorrt+optimised' is for --precision bf16 or fp16")
        self._network = Network(decoder)
        return self._run

    def _run(self, tokens: Tensor, position: Tensor, caches: list[LayerCache]):
        """As model.decoder.Forward."""
        slots = [tensor for cache in caches for tensor in cache]
        arguments = (tokens, *self._tables(tokens, position))
        arguments += tuple(slots) if tokens.shape[1] == 1 else ()
        if tokens.shape[1] not in self._networks:
            self._networks[tokens.shape[1]] = self._build(arguments)
        logits, *written = self._networks[tokens.shape[1]](*arguments)
        for cache, values in zip(slots, written, strict=True):
            write_cache(cache, values, position)
        return logits, torch.argmax(logits, dim=-1, keepdim=True)

    def _tables(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """RoPE's rows; of a token also what is added to its scores over the cache."""
        decoder, length = self._network.decoder, tokens.shape[1]
        if length > 1:
            return decoder.rope_cos[:length], decoder.rope_sin[:length]
        rows = (table.index_select(0, position) for table in (decoder.rope_cos, decoder.rope_sin))
        unfilled = torch.arange(self.plan.cache_length, device=tokens.device) >= position
        return *rows, torch.zeros_like(unfilled, dtype=torch.float32).masked_fill(
            unfilled, -torch.inf
        )

    def _build(self, arguments: tuple[Tensor, ...]) -> Callable:
        import torch_tensorrt

        exported = torch.export.export(self._network, arguments, strict=False)
        return torch_tensorrt.dynamo.compile(exported, arg_inputs=arguments, **self._settings())

    def _settings(self) -> dict:
        """Types are the weights' own, as elsewhere without TF32; nothing may be left to PyTorch."""
        settings = {"use_explicit_typing": True, "disable_tf32": True}
        settings |= {"require_full_compilation": True, "min_block_size": 1}
        return settings | ({"optimization_level": _HIGHEST_LEVEL} if self._is_optimised else {})

    def compile_count(self) -> int:
        return len(self._networks)

    def compiler_stats(self) -> dict:
        import torch_tensorrt

        return {"version": torch_tensorrt.__version__, **self._settings()}

    def close(self) -> None:
        super().close()
        self._networks = {}


class Network(nn.Module):
    """The decoder as a function that changes nothing: (logits [batch, vocab], then the keys and
    values [batch, kv_heads, length, head_dim] of its tokens, layer after layer)."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.feed_forward = make_network("torch")

    def forward(self, tokens: Tensor, cos: Tensor, sin: Tensor, mask=None, *caches: Tensor):
        """tokens [batch, length]; of a single one mask [slots], fp32, and all layers' caches."""
        decoder, eps = self.decoder, self.decoder.config.norm_eps
        x, written = F.embedding(tokens, decoder.embed_tokens.weight), []
        for index, layer in enumerate(decoder.layers):
            cache = caches[2 * index : 2 * index + 2]
            hidden = rms_norm(x, layer.input_layernorm.weight, eps)
            q, k, v = self._heads(layer, hidden, cos, sin)
            context = _attend_to_cache(q, k, v, mask, *cache) if cache else _attend(q, k, v)
            written += [k, v]
            x = x + F.linear(context.transpose(1, 2).flatten(2), layer.o_proj.weight)
            hidden = rms_norm(x, layer.post_attention_layernorm.weight, eps)
            weights = layer.gate_up_proj.weight, layer.down_proj.weight
            x = x + self.feed_forward(hidden, weights)
        last = rms_norm(x[:, -1], decoder.norm.weight, eps)
        return F.linear(last, decoder.lm_head.weight), *written

    def _heads(self, layer: DecoderLayer, hidden: Tensor, cos: Tensor, sin: Tensor):
        """Queries [batch, heads, length, head_dim], keys and values [batch, kv_heads, ...]."""
        part = self.decoder.config.layers[0].attention
        qkv = F.linear(hidden, layer.qkv_proj.weight).unflatten(-1, (-1, part.head_dim))
        sizes = (part.num_heads, part.num_kv_heads, part.num_kv_heads)
        q, k, v = qkv.transpose(1, 2).split(sizes, dim=1)
        return apply_rope(q, cos, sin), apply_rope(k, cos, sin), v


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = (heads.repeat_interleave(group, dim=1) for heads in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _attend_to_cache(q, k, v, mask, keys: Tensor, values: Tensor) -> Tensor:
    """A token's context of the filled slots of the cache and of itself: one softmax over both."""
    grouped = q.flatten(1, 2).unflatten(1, (k.shape[1], -1)) * q.shape[-1] ** -0.5
    scores = (grouped @ keys.transpose(2, 3)).float() + mask
    own_scores = (grouped @ k.transpose(2, 3)).float()
    shares = torch.softmax(torch.cat((scores, own_scores), dim=-1), dim=-1).to(q.dtype)
    context = shares[..., :-1] @ values + shares[..., -1:] @ v
    return context.flatten(1, 2).unsqueeze(2)
