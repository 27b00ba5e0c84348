"""The check of generation before the timing, with a reference that may see the batch in slices.

A reference of the whole batch needs a second KV cache as large as the engine's. Where that does not
fit, the reference takes one slice of the sequences after the other, and for each of them the engine,
which can run its whole batch only, runs anew.
"""

import time

from torch import Tensor

from inference_benchmark.output_check import agreement
from inference_benchmark.workloads.base import CheckSettings, worst_check


def check(engine, open_reference, inputs: Tensor, settings: CheckSettings) -> dict:
    started = time.perf_counter()
    batch = inputs.shape[0]
    size = -(-batch // settings.slices)
    found, names = [], []
    for start in range(0, batch, size):
        rows = slice(start, min(start + size, batch))
        part = inputs[rows]
        reference = open_reference(part.shape[0])
        seen = engine if part.shape[0] == batch else BatchRows(engine, inputs, rows)
        forced = agreement.Inputs.random(settings.vocab_size, part, settings.seed)
        found.append(agreement.check(seen, reference, forced, settings.precision))
        reference.close()
        names.append(f"sequences {rows.start} to {rows.stop - 1}")
    worst = worst_check(found, names)
    seconds = time.perf_counter() - started
    return {**worst, "checked": ["logits", "cache"], "floor": None, "seconds": seconds}


class BatchRows:
    """Some sequences of an engine's batch, as an engine of their own; the others go along."""

    def __init__(self, engine, inputs: Tensor, rows: slice) -> None:
        self._engine = engine
        self._inputs = inputs.clone()
        self._rows = rows

    def prefill(self, part: Tensor) -> None:
        self._inputs[self._rows] = part
        self._engine.prefill(self._inputs)

    def decode(self) -> None:
        self._engine.decode()

    def reset(self, fill: float = 0.0) -> None:
        self._engine.reset(fill)

    def force(self, token: Tensor, position: int) -> None:
        tokens = self._engine.token.clone()
        tokens[self._rows] = token
        self._engine.force(tokens, position)

    @property
    def logits(self) -> Tensor:
        return self._engine.logits[self._rows]

    @property
    def token(self) -> Tensor:
        return self._engine.token[self._rows]

    @property
    def tokens(self) -> Tensor:
        return self._engine.tokens[self._rows]

    @property
    def position(self) -> Tensor:
        return self._engine.position

    @property
    def caches(self) -> list:
        return [tuple(tensor[self._rows] for tensor in cache) for cache in self._engine.caches]

    @property
    def choices(self) -> list[Tensor]:
        """Of each mixture [tokens of these sequences, experts per token]."""
        batch = self._inputs.shape[0]
        return [
            chosen.view(batch, -1, chosen.shape[-1])[self._rows].flatten(0, 1)
            for chosen in self._engine.choices
        ]
