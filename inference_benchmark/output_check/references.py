"""What outputs are held against: our decoder's forward, or of a model that is not ours its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

import torch
from torch import Tensor

from inference_benchmark.model.foreign import ForeignDecoder
from inference_benchmark.output_check.reference import WIDER, Reference


@dataclass(frozen=True)
class References:
    """
    eager: in the weights' own type. exact: in the next wider one. of_tokens: which of them chosen
        tokens are held against. name: what it is, where it is not our decoder.
    """

    eager: "Reference | ForeignReference"
    exact: "Reference | ForeignReference"
    of_tokens: "Reference | ForeignReference"
    name: str | None = None


_SHORT = {torch.float32: "fp32", torch.float64: "fp64"}


def references_of(decoder) -> References:
    if not isinstance(decoder, ForeignDecoder):
        eager = Reference(decoder)
        return References(eager, Reference.exact(decoder), eager)
    exact = ForeignReference(decoder, WIDER[decoder.dtype])
    name = f"a second run in {_SHORT[exact.dtype]}"
    return References(ForeignReference(decoder, decoder.dtype), exact, exact, name)


class ForeignReference:
    """The model's own forward over whole sequences, without a cache; as Reference, but that its
    layers are not taken one by one. In a wider type it is a copy, made when it is first needed."""

    def __init__(self, decoder: ForeignDecoder, dtype: torch.dtype) -> None:
        self.decoder, self.dtype = decoder, dtype
        vocab_size = decoder.config.vocab_size
        self.config = SimpleNamespace(num_layers=0, vocab_size=vocab_size, num_experts=None)

    @cached_property
    def model(self):
        return self.decoder.in_type(self.dtype)

    def stream(self, tokens: Tensor, position: int = 0, cache_length: int | None = None):
        return ForeignStream(self.model, tokens)


class ForeignStream:
    """A forward over tokens [batch, length]."""

    def __init__(self, model, tokens: Tensor) -> None:
        mask = torch.ones_like(tokens)
        self._logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits

    def logits(self, positions: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
        """(which of these positions, their logits [batch, positions, vocab])."""
        yield slice(0, len(positions)), self._logits[:, list(positions)]
