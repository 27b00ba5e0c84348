"""Which tensors of a Hugging Face checkpoint make up our weights, and how they are laid out there.

We fuse what reads the same input (q, k and v; gate and up; all experts), so one of our weights is
put together from several of the checkpoint's tensors: each has its own slice of it. Three layouts
differ as well. Models whose RoPE rotates pairs that lie side by side get the rows that make queries
and keys sorted into halves: scores are sums over these rows and don't depend on their order. The
experts of Llama 4 are stored [expert, in, out]. Those of DeepSeek V3 are stored one by one in files,
and stacked in the state dict of a loaded model.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_benchmark.model.decoder import Decoder, DecoderLayer
from inference_benchmark.models import (
    GroupedQueryAttention,
    LatentAttention,
    LayerConfig,
    MixtureOfExperts,
)
from inference_benchmark.parallel.sharding import Cut

# Multimodal checkpoints keep their text model under this name.
_TEXT_PREFIXES = ("", "language_model.")
_MLP = {"llama": "mlp", "deepseek_v3": "mlp", "llama4": "feed_forward"}
_ROUTER = {"deepseek_v3": "gate", "llama4": "router"}
_SHARED = {"deepseek_v3": "shared_experts", "llama4": "shared_expert"}


def _as_it_is(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Target:
    """Where a tensor of a checkpoint goes: arrange(tensor), or what this rank keeps of it, is copied
    into view.

    `shape` is the tensor's in the checkpoint.
    """

    view: Tensor
    arrange: Callable[[Tensor], Tensor] = _as_it_is
    transposed: bool = False
    cut: Cut | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(self.view.shape)
        if self.cut is not None:
            shape = self.cut.whole_shape(shape)
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape

    def fill(self, value: Tensor) -> None:
        arranged = self.arrange(value)
        if self.cut is None:
            self.view.copy_(arranged)
        else:
            self.cut.keep(arranged, self.view)


Cuts = Mapping[str, Cut]  # of one layer, by module


def targets(decoder: Decoder, available: Container[str]) -> dict[str, Target]:
    """Every tensor the decoder needs, by its name in the checkpoint.

    Raises:
        KeyError: one is not available; the message names it.
    """
    prefix = next(
        (each for each in _TEXT_PREFIXES if f"{each}model.embed_tokens.weight" in available), ""
    )
    found = {f"{prefix}{name}": target for name, target in _all(decoder, prefix, available)}
    for name in found:
        if name not in available:
            raise KeyError(f"{name} is missing in the checkpoint")
    return found


Named = Iterator[tuple[str, Target]]


def _all(decoder: Decoder, prefix: str, available: Container[str]) -> Named:
    yield "model.embed_tokens.weight", Target(decoder.embed_tokens.weight)
    yield "model.norm.weight", Target(decoder.norm.weight)
    if not decoder.config.tied_embeddings:
        yield "lm_head.weight", Target(decoder.lm_head.weight, cut=decoder.cuts.get("lm_head"))
    config = decoder.config
    for index, (layer, kind) in enumerate(zip(decoder.layers, config.layers, strict=True)):
        path = f"model.layers.{index}"
        cuts = {
            name.removeprefix(f"layers.{index}."): cut
            for name, cut in decoder.cuts.items()
            if name.startswith(f"layers.{index}.")
        }
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{path}.{norm}.weight", Target(getattr(layer, norm).weight)
        attention = f"{path}.self_attn"
        if isinstance(kind.attention, GroupedQueryAttention):
            yield from _grouped_query(
                layer, kind.attention, attention, config.rope.interleaved, cuts
            )
        else:
            yield from _latent(layer, kind.attention, attention, config.rope.interleaved, cuts)
        mlp = f"{path}.{_MLP[config.architecture]}"
        if isinstance(kind.feed_forward, MixtureOfExperts):
            stacked = f"{prefix}{mlp}.experts.gate_up_proj" in available
            yield from _mixture(layer, kind, mlp, config.architecture, stacked, cuts)
        else:
            weights = layer.gate_up_proj.weight, layer.down_proj.weight
            yield from _swiglu(*weights, mlp, cuts.get("gate_up_proj"), cuts.get("down_proj"))


def _grouped_query(
    layer: DecoderLayer, kind: GroupedQueryAttention, path: str, interleaved: bool, cuts: Cuts
) -> Named:
    q_rows, kv_rows = kind.num_heads * kind.head_dim, kind.num_kv_heads * kind.head_dim
    q, k, v = layer.qkv_proj.weight.split((q_rows, kv_rows, kv_rows))
    arrange = _rope_rows(kind.head_dim, kind.head_dim) if interleaved else _as_it_is
    q_cut, k_cut, v_cut = _parts(cuts.get("qkv_proj"), 3)
    yield f"{path}.q_proj.weight", Target(q, arrange, cut=q_cut)
    yield f"{path}.k_proj.weight", Target(k, arrange, cut=k_cut)
    yield f"{path}.v_proj.weight", Target(v, cut=v_cut)
    yield f"{path}.o_proj.weight", Target(layer.o_proj.weight, cut=cuts.get("o_proj"))


def _parts(cut: Cut | None, count: int) -> list[Cut | None]:
    """One cut for each of the matrices that a fused one consists of."""
    if cut is None:
        return [None] * count
    return [Cut(cut.dim, (part,)) for part in cut.parts]


def _latent(
    layer: DecoderLayer, kind: LatentAttention, path: str, interleaved: bool, cuts: Cuts
) -> Named:
    q_down, kv_down = layer.qkv_a_proj.weight.split((kind.query_rank, kind.cache_dim))
    q_rows = _rope_rows(kind.query_dim, kind.rope_dim) if interleaved else _as_it_is
    kv_rows = _rope_rows(kind.cache_dim, kind.rope_dim) if interleaved else _as_it_is
    yield f"{path}.q_a_proj.weight", Target(q_down)
    yield f"{path}.kv_a_proj_with_mqa.weight", Target(kv_down, kv_rows)
    yield f"{path}.q_b_proj.weight", Target(layer.q_b_proj.weight, q_rows, cut=cuts.get("q_b_proj"))
    for name in ("q_a_layernorm", "kv_a_layernorm", "kv_b_proj", "o_proj"):
        yield f"{path}.{name}.weight", Target(getattr(layer, name).weight, cut=cuts.get(name))


def _rope_rows(head_dim: int, rope_dim: int) -> Callable[[Tensor], Tensor]:
    """Sorts the last rope_dim rows of each head, pairs side by side, into two halves."""

    def arrange(weight: Tensor) -> Tensor:
        by_head = weight.view(-1, head_dim, weight.shape[-1])
        kept, pairs = by_head.split((head_dim - rope_dim, rope_dim), dim=1)
        pairs = pairs.unflatten(1, (rope_dim // 2, 2)).transpose(1, 2).flatten(1, 2)
        return torch.cat((kept, pairs), dim=1).view_as(weight)

    return arrange


def _swiglu(
    gate_up: Tensor, down: Tensor, path: str, gate_up_cut: Cut | None, down_cut: Cut | None
) -> Named:
    gate, up = gate_up.chunk(2)
    gate_cut, up_cut = _parts(gate_up_cut, 2)
    yield f"{path}.gate_proj.weight", Target(gate, cut=gate_cut)
    yield f"{path}.up_proj.weight", Target(up, cut=up_cut)
    yield f"{path}.down_proj.weight", Target(down, cut=down_cut)


def _mixture(
    layer: DecoderLayer,
    kind: LayerConfig,
    path: str,
    architecture: str,
    stacked: bool,
    cuts: Cuts,
) -> Named:
    router = f"{path}.{_ROUTER[architecture]}"
    yield f"{router}.weight", Target(layer.router.weight)
    if "router_bias" in dict(layer.named_children()):
        yield f"{router}.e_score_correction_bias", Target(layer.router_bias.weight)
    shared = f"{path}.{_SHARED[architecture]}"
    weights = layer.shared_gate_up_proj.weight, layer.shared_down_proj.weight
    shared_cuts = cuts.get("shared_gate_up_proj"), cuts.get("shared_down_proj")
    yield from _swiglu(*weights, shared, *shared_cuts)
    gate_up, down = layer.expert_gate_up_proj.weight, layer.expert_down_proj.weight
    gate_up_cut, down_cut = cuts.get("expert_gate_up_proj"), cuts.get("expert_down_proj")
    if architecture == "llama4":
        yield f"{path}.experts.gate_up_proj", Target(gate_up, _transpose, True, gate_up_cut)
        yield f"{path}.experts.down_proj", Target(down, _transpose, True, down_cut)
    elif stacked:
        yield f"{path}.experts.gate_up_proj", Target(gate_up, cut=gate_up_cut)
        yield f"{path}.experts.down_proj", Target(down, cut=down_cut)
    else:
        own_cuts = _of_one_expert(gate_up_cut), _of_one_expert(down_cut)
        for expert in range(kind.feed_forward.num_experts):
            own = gate_up[expert], down[expert]
            yield from _swiglu(*own, f"{path}.experts.{expert}", *own_cuts)


def _of_one_expert(cut: Cut | None) -> Cut | None:
    return None if cut is None else Cut(cut.dim - 1, cut.parts)


def _transpose(value: Tensor) -> Tensor:
    return value.transpose(-2, -1)
