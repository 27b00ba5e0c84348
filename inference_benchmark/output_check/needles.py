"""Planted caches in which a few slots hold nearly all the weight of attention.

With random weights attention over a long context is an average: a slot that is left out changes it
by one part in a thousand, less than rounding. So the caches are filled with values of which a few,
the needles, have large keys. Whatever a query is, the needle whose key happens to lie along it
outweighs all other slots together, and the head returns that slot's value: leaving it out changes
the head altogether, and the cache of the next layer shows it.

Layers and heads take turns with three kinds of needles: the first slot against the last one that a
step sees; edges of tiles and of what one program of a split attention reads; and one slot at random
in each of many equal parts of the cache. Slots beyond a step's position have needles too.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from inference_benchmark.kernels._registration import multiprocessor_count
from inference_benchmark.kernels.attention_plan import choose_plan
from inference_benchmark.model.cache import LayerCache
from inference_benchmark.model.parts import LatentAttention, LayerConfig

# Root mean square of a needle's key: of a head's two, and of many. The scores then scatter by that
# much where queries have unit variance; e^9 ordinary slots weigh as much as one needle of score 9.
_PAIR_SCALE = 24.0
_SCALE = 10.0
_ORDINARY_SCALE = 0.5
_PARTS = 48  # equal parts of the cache with a needle each
_EDGES = 32  # needles at edges for each head
_TILES = (16, 64, 128)


class Plant:
    """What is planted, computed anew for each layer whenever it is needed.

    Args:
        layers: of the model, as the engine's caches have them.
        cache_length: slots of each cache.
        positions: where the steps will be that see it; each at least 1.
    """

    def __init__(
        self,
        layers: Sequence[LayerConfig],
        cache_length: int,
        positions: Sequence[int],
        seed: int,
    ) -> None:
        self._layers = layers
        self._cache_length = cache_length
        self._lasts = sorted({position - 1 for position in positions} - {0})
        self._positions = positions
        self._seed = seed

    def fill(self, index: int, cache: LayerCache) -> None:
        """Plant into the cache of one layer, tensors [batch, heads, slots, dim]."""
        device = cache[0].device
        generator = torch.Generator(device).manual_seed(self._seed * 1_000_003 + index)
        for tensor in cache:
            tensor.normal_(generator=generator)
        attention = self._layers[index].attention
        keys, scale = cache[0], 1.0
        if isinstance(attention, LatentAttention):  # the rest of its keys are its values
            keys = keys[..., attention.latent_dim :]
            scale = math.sqrt(attention.query_dim / attention.rope_dim)
        keys.mul_(_ORDINARY_SCALE)
        on_host = torch.Generator().manual_seed(self._seed * 1_000_033 + index)
        for head in range(keys.shape[1]):
            self._fill_head(index + head, keys[:, head], scale, generator, on_host)

    def _fill_head(self, pattern: int, keys: Tensor, scale: float, generator, on_host) -> None:
        """keys [batch, slots, dim] of one head."""
        if pattern % 3 == 0:
            needle = torch.empty_like(keys[:, :1]).normal_(generator=generator)
            keys[:, :1] = needle * (_PAIR_SCALE * scale)
            lasts = torch.tensor(self._lasts, dtype=torch.int64, device=keys.device)
            keys[:, lasts] = needle * (-_PAIR_SCALE * scale)
            return
        slots = self._edges(keys, on_host) if pattern % 3 == 1 else self._spread(on_host)
        slots = slots.to(keys.device)
        needles = torch.empty_like(keys[:, slots]).normal_(generator=generator)
        keys[:, slots] = needles * (_SCALE * scale)

    def _spread(self, generator: torch.Generator) -> Tensor:
        parts = min(_PARTS, self._cache_length)
        within = torch.rand(parts, generator=generator)
        slots = (torch.arange(parts) + within) * (self._cache_length / parts)
        return slots.to(torch.int64).clamp(max=self._cache_length - 1).unique()

    def _edges(self, keys: Tensor, generator: torch.Generator) -> Tensor:
        """Slots beside the multiples of tiles, and of what a program of our kernel reads."""
        edges = torch.cat(
            [torch.arange(0, self._cache_length, size) for size in self._edge_sizes(keys)]
        )
        slots = torch.cat((edges, edges - 1)).unique()
        slots = slots[slots >= 0]
        chosen = torch.randperm(len(slots), generator=generator)[:_EDGES]
        return slots[chosen].sort().values

    def _edge_sizes(self, keys: Tensor) -> list[int]:
        sizes = {size for size in _TILES if size < self._cache_length} or {1}
        if keys.device.type == "cuda":
            batch, length, dim = keys.shape
            processors = multiprocessor_count(keys.device)
            for pairs in (batch, 8 * batch):  # one and eight KV heads
                plan = choose_plan(pairs, length, dim, keys.element_size(), processors)
                tile = plan.tile_tokens
                for position in self._positions:
                    share = -(-(position + 1) // plan.splits)
                    sizes.add(-(-share // tile) * tile)
        return sorted(sizes)


def step_positions(input_length: int, cache_length: int, seed: int) -> list[int]:
    """Where to look: the last steps of a run, its first, some between, and short contexts."""
    last = cache_length - 2  # the last token of a run is chosen, but never fed
    generator = torch.Generator().manual_seed(seed)
    between = torch.randint(1, max(2, last), (3,), generator=generator).tolist()
    wanted = [last, last - 1, input_length, input_length + 50, input_length + 150, 17, *between]
    return sorted({min(max(1, slot), cache_length - 1) for slot in wanted})
