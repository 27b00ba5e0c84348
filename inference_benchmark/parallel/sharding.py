"""Which part of each weight a rank keeps.

Matrices that read the residual stream are cut by rows (heads, feed-forward columns, tokens of the
vocabulary), those that write into it by columns, so that a layer needs a sum over the ranks in two
places only. A fused matrix is several ones below each other, each cut by itself. Everything else
(embedding table, norms, routers, the projections down to a latent vector) is on every rank.
"""

from dataclasses import dataclass

from torch import Tensor

from inference_benchmark.models import (
    Attention,
    DenseFeedForward,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    ModelConfig,
)


@dataclass(frozen=True)
class Shard:
    """This rank among all that share a model."""

    rank: int = 0
    size: int = 1

    def even(self, length: int) -> "Part":
        share = length // self.size
        return Part(length, self.rank * share, share)


@dataclass(frozen=True)
class Part:
    """`kept` of `length` rows or columns, from `start` on."""

    length: int
    start: int
    kept: int


@dataclass(frozen=True)
class Cut:
    """What a rank keeps of a weight along one dimension, which consists of parts."""

    dim: int
    parts: tuple[Part, ...]

    def whole_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The whole weight's shape from that of the share."""
        whole = list(shape)
        whole[self.dim] = sum(part.length for part in self.parts)
        return tuple(whole)

    def keep(self, whole: Tensor, share: Tensor) -> None:
        """Copy what is kept of `whole` into `share`."""
        from_, to = 0, 0
        for part in self.parts:
            kept = whole.narrow(self.dim, from_ + part.start, part.kept)
            share.narrow(self.dim, to, part.kept).copy_(kept)
            from_, to = from_ + part.length, to + part.kept


def cuts(config: ModelConfig, shard: Shard) -> dict[str, Cut]:
    """By path of the module in the decoder; a weight without an entry is on every rank.

    config: the whole model.
    """
    if shard.size == 1:
        return {}
    found = {"lm_head": Cut(0, (shard.even(config.vocab_size),))}
    for index, layer in enumerate(config.layers):
        own = _attention(layer.attention, shard) | _feed_forward(layer.feed_forward, shard)
        found |= {f"layers.{index}.{name}": cut for name, cut in own.items()}
    return found


def _attention(kind: Attention, shard: Shard) -> dict[str, Cut]:
    if isinstance(kind, GroupedQueryAttention):
        queries = shard.even(kind.num_heads * kind.head_dim)
        keys = kv_heads(kind, shard)
        return {"qkv_proj": Cut(0, (queries, keys, keys)), "o_proj": Cut(1, (queries,))}
    return _latent_attention(kind, shard)


def kv_heads(kind: GroupedQueryAttention, shard: Shard) -> Part:
    """Rows of this rank's KV heads; where ranks are more than heads, of the one its queries use."""
    rows = kind.num_kv_heads * kind.head_dim
    if kind.num_kv_heads >= shard.size:
        return shard.even(rows)
    head = shard.rank * kind.num_kv_heads // shard.size
    return Part(rows, head * kind.head_dim, kind.head_dim)


def _latent_attention(kind: LatentAttention, shard: Shard) -> dict[str, Cut]:
    widths = {"q_b_proj": kind.query_dim, "kv_b_proj": kind.nope_dim + kind.value_dim}
    by_head = {
        name: Cut(0, (shard.even(kind.num_heads * width),)) for name, width in widths.items()
    }
    return by_head | {"o_proj": Cut(1, (shard.even(kind.num_heads * kind.value_dim),))}


def _feed_forward(kind: FeedForward, shard: Shard) -> dict[str, Cut]:
    if isinstance(kind, DenseFeedForward):
        return _swiglu(shard.even(kind.intermediate_size))
    # Every rank has a part of each expert: it is as busy as the others whatever was chosen.
    experts = _swiglu(shard.even(kind.intermediate_size), "expert_", first_dim=1)
    return experts | _swiglu(shard.even(kind.shared_intermediate_size), "shared_")


def _swiglu(width: Part, prefix: str = "", first_dim: int = 0) -> dict[str, Cut]:
    return {
        f"{prefix}gate_up_proj": Cut(first_dim, (width, width)),
        f"{prefix}down_proj": Cut(first_dim + 1, (width,)),
    }
