"""What is compared together: the errors of a part of the check, and of a mixture's routing."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from inference_benchmark.output_check.errors import CacheErrors, LogitErrors

# The exact forward serves so many tokens of the first sequence of a prompt; shorter inputs whole.
EXACT_TOKENS = 1056


@dataclass(eq=False)
class Part:
    """A part of the check, with the errors that belong together."""

    name: str
    caches: CacheErrors
    logits: LogitErrors

    @classmethod
    def named(cls, name: str, first_slot: int = 0) -> "Part":
        return cls(name, CacheErrors(first_slot), LogitErrors())

    def add_cache(
        self, layer: int, computed, eager, exact, slots: slice, first_sequence: int = 0
    ) -> None:
        """computed, eager, exact: a layer's tensors [sequences, heads, slots, values], the engine's
        with more slots than eager's have; exact ones may be None or shorter."""
        for number, (tensor, eager_tensor, exact_tensor) in enumerate(
            zip(computed, eager, exact, strict=True)
        ):
            tensor = tensor[:, :, : eager_tensor.shape[2]][:, :, slots]
            exact_tensor = None if exact_tensor is None else exact_tensor[:, :, slots]
            self.caches.add(
                layer, number, tensor, eager_tensor[:, :, slots], exact_tensor, first_sequence
            )


class Routing:
    """How many of the chosen experts the reference would not have chosen."""

    def __init__(self) -> None:
        self._differing: list[Tensor] = []
        self._compared: list[int] = []

    def add(self, eager_choices: Sequence[Tensor], chosen: Sequence[Tensor]) -> None:
        for eager_experts, experts in zip(eager_choices, chosen, strict=True):
            known = (experts[:, :, None] == eager_experts[:, None, :]).any(dim=-1)
            self._differing.append((~known).sum())
            self._compared.append(known.numel())

    def difference(self) -> float | None:
        """The share of all; None without mixtures of experts."""
        if not self._compared:
            return None
        return sum(int(count) for count in self._differing) / sum(self._compared)


def logits_of(stream, position: int) -> Tensor:
    """Logits [sequences, vocab] of one position."""
    ((_, logits),) = stream.logits([position])
    return logits[:, 0]
