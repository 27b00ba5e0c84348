"""Relative errors of what two forwards left, each held against the limit that rounding sets it.

Three computations are compared: the engine's, eager's and, for some of the sequences and tokens, the
exact one. The exact one tells how far the engine and eager are from it on average, a tight measure:
over a layer's cache it hardly scatters. Eager stands beside the engine everywhere, and shows the
single slot, head or block of the vocabulary that is wrong.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference_benchmark.output_check.tolerances import Factors

VOCABULARY_BLOCK = 64


@dataclass(frozen=True)
class Finding:
    """An error beside its limit, and the floor that the limit rests on."""

    measure: str
    error: float
    limit: float
    floor: float | None
    at: str = ""

    @property
    def ratio(self) -> float:
        return self.error / self.limit if self.limit else (math.inf if self.error else 0.0)

    @property
    def passed(self) -> bool:
        return self.error <= self.limit

    @property
    def phrase(self) -> str:
        place = f" ({self.at})" if self.at else ""
        return f"{self.measure} {self.error:.2g} over {self.limit:.2g}{place}"

    def as_dict(self) -> dict:
        error = finite(self.error)
        return {"error": error, "limit": self.limit, "floor": self.floor, "at": self.at}


def finite(error: float | None) -> float | None:
    """For JSON, which knows no infinity."""
    return error if error is not None and math.isfinite(error) else None


def relative_error(computed: Tensor, expected: Tensor) -> Tensor:
    """Of vectors along the last dimension; what is not a number is infinitely wrong."""
    wide = torch.promote_types(expected.dtype, torch.float32)
    difference = (computed.to(wide) - expected.to(wide)).norm(dim=-1)
    error = difference / expected.to(wide).norm(dim=-1)
    error = torch.where(difference == 0, torch.zeros_like(error), error)
    return error.nan_to_num(nan=math.inf, posinf=math.inf).float()


class _Errors:
    """Errors [sequences, heads, slots], summed up: by head, and the largest with its place."""

    def __init__(self) -> None:
        self._squares: Tensor | None = None
        self._count = 0
        self._most: list[Tensor] = []
        self._places: list[Tensor] = []
        self._shapes: list[tuple[int, ...]] = []
        self._first_sequences: list[int] = []

    def add(self, error: Tensor, first_sequence: int = 0) -> None:
        squares = error.square().sum(dim=(0, 2))
        self._squares = squares if self._squares is None else self._squares + squares
        self._count += error.shape[0] * error.shape[2]
        most, place = error.flatten().max(dim=0)
        self._most.append(most)
        self._places.append(place)
        self._shapes.append(tuple(error.shape))
        self._first_sequences.append(first_sequence)

    @property
    def is_empty(self) -> bool:
        return self._count == 0

    def by_head(self) -> list[float]:
        return (self._squares / self._count).sqrt().tolist()

    def mean(self) -> float:
        heads = self.by_head()
        return math.sqrt(sum(error**2 for error in heads) / len(heads))

    def most(self) -> tuple[float, tuple[int, int, int]]:
        """The largest error and its (sequence, head, slot)."""
        values = [float(error) for error in self._most]
        worst = values.index(max(values))
        _, heads, slots = self._shapes[worst]
        place = int(self._places[worst])
        sequence = self._first_sequences[worst] + place // (heads * slots)
        return values[worst], (sequence, place // slots % heads, place % slots)


@dataclass
class _Three:
    """Of the same values: engine and eager against the exact ones, and engine against eager."""

    engine: _Errors = field(default_factory=_Errors)
    eager: _Errors = field(default_factory=_Errors)
    between: _Errors = field(default_factory=_Errors)

    def add(
        self, computed: Tensor, eager: Tensor, exact: Tensor | None, first_sequence: int = 0
    ) -> None:
        """[sequences, heads, slots, values]; of the exact ones the first sequences and slots."""
        self.between.add(relative_error(computed, eager), first_sequence)
        if exact is None or 0 in exact.shape:
            return
        known_part = (slice(exact.shape[0]), slice(None), slice(exact.shape[2]))
        self.engine.add(relative_error(computed[known_part], exact))
        self.eager.add(relative_error(eager[known_part], exact))


class CacheErrors:
    """Errors of a layer's cache tensors, by head and slot. `first_slot` is where the slots lie."""

    def __init__(self, first_slot: int = 0) -> None:
        self._first_slot = first_slot
        self._by_place: dict[tuple[int, int], _Three] = {}

    def add(
        self,
        layer: int,
        tensor: int,
        computed: Tensor,
        eager: Tensor,
        exact: Tensor | None,
        first_sequence: int = 0,
    ) -> None:
        """computed, eager [sequences, heads, slots, dim]; exact: of the first sequences and slots."""
        if computed.shape[2]:
            three = self._by_place.setdefault((layer, tensor), _Three())
            three.add(computed, eager, exact, first_sequence)

    def floors(self) -> dict[tuple[int, int], tuple[float, float]]:
        """Eager's own (mean, largest) error of each layer and tensor, where it is known."""
        return {
            place: (three.eager.mean(), three.eager.most()[0])
            for place, three in self._by_place.items()
            if not three.eager.is_empty
        }

    def findings(
        self, part: str, factors: Factors, floors: dict[tuple[int, int], tuple[float, float]]
    ) -> list[Finding]:
        """The worst mean, the worst head and the worst slot of all layers.

        floors: where this part knows its own, these; else another part's.
        """
        own_floors = self.floors()
        findings: list[Finding] = []
        for place, three in self._by_place.items():
            where = _name(place)
            mean, most = own_floors.get(place) or floors.get(place) or (0.0, 0.0)
            if place in own_floors:
                findings += self._exact_findings(part, where, three, factors)
            error, (sequence, head, slot) = three.between.most()
            limit = max(factors.most * most, 3 * factors.least)
            at = f"{where}, sequence {sequence}, head {head}, slot {slot + self._first_slot}"
            findings.append(Finding(f"{part}: a cache slot", error, limit, most, at))
            limit = max(math.hypot(1.0, factors.mean) * mean, factors.least)
            error = three.between.mean()
            findings.append(Finding(f"{part}: cache against eager", error, limit, mean, where))
        return worst(findings)

    def _exact_findings(self, part, where, three: _Three, factors: Factors) -> list[Finding]:
        floor = three.eager.mean()
        limit = max(factors.mean * floor, factors.least)
        findings = [Finding(f"{part}: cache", three.engine.mean(), limit, floor, where)]
        heads = zip(three.engine.by_head(), three.eager.by_head(), strict=True)
        for head, (error, eager_error) in enumerate(heads):
            floor_of_head = max(floor, eager_error)
            limit = max(factors.head * floor_of_head, factors.least)
            measure = f"{part}: cache of a head"
            findings.append(Finding(measure, error, limit, floor_of_head, f"{where}, head {head}"))
        return findings


def _name(place: tuple[int, int]) -> str:
    layer, tensor = place
    return f"layer {layer}, {('keys', 'values')[tensor]}"


class LogitErrors:
    """Errors of logits [batch, vocab], by row and by block of the vocabulary."""

    def __init__(self) -> None:
        self._rows = _Three()
        self._blocks = _Errors()
        self._eager_blocks = _Errors()

    def add(
        self, logits: Tensor, eager: Tensor, exact: Tensor | None, first_sequence: int = 0
    ) -> None:
        """exact: of the first sequences."""
        exact_rows = None if exact is None else exact[:, None, None]
        self._rows.add(logits[:, None, None], eager[:, None, None], exact_rows, first_sequence)
        self._blocks.add(block_error(logits, eager), first_sequence)
        if exact is not None:
            self._eager_blocks.add(block_error(eager[: exact.shape[0]], exact))

    @property
    def is_empty(self) -> bool:
        return self._rows.between.is_empty

    def floor(self) -> tuple[float, float] | None:
        """Eager's own (mean, largest) error, where it is known."""
        eager = self._rows.eager
        return None if eager.is_empty else (eager.mean(), eager.most()[0])

    def most(self) -> float | None:
        """The largest error of a row against eager."""
        return None if self.is_empty else self._rows.between.most()[0]

    def findings(self, part: str, factors: Factors, floor: tuple[float, float]) -> list[Finding]:
        if self.is_empty:
            return []
        own_floor = self.floor()
        mean, most = own_floor or floor
        findings = []
        if own_floor is not None:
            limit = max(factors.mean * mean, factors.least)
            error = self._rows.engine.mean()
            findings.append(Finding(f"{part}: logits", error, limit, mean))
        error, (sequence, *_) = self._rows.between.most()
        limit = max(factors.most * most, 3 * factors.least)
        at = f"sequence {sequence}"
        findings.append(Finding(f"{part}: a row of logits", error, limit, most, at))
        error, (sequence, _, block) = self._blocks.most()
        floor_of_block = most
        if not self._eager_blocks.is_empty:
            floor_of_block = max(most, self._eager_blocks.most()[0])
        limit = max(factors.most * floor_of_block, 5 * factors.least)
        start = block * VOCABULARY_BLOCK
        at = f"sequence {sequence}, tokens {start} to {start + VOCABULARY_BLOCK - 1}"
        measure = f"{part}: a block of the vocabulary"
        findings.append(Finding(measure, error, limit, floor_of_block, at))
        return findings


def block_error(computed: Tensor, expected: Tensor) -> Tensor:
    """[batch, vocab] -> [batch, 1, blocks]: root mean square error within a block, relative to the
    logits' own root mean square."""
    wide = torch.promote_types(expected.dtype, torch.float32)
    expected = expected.to(wide)
    squares = (computed.to(wide) - expected).square()
    missing = -squares.shape[1] % VOCABULARY_BLOCK
    size = torch.full((squares.shape[1] + missing,), 1.0, device=squares.device)
    size[squares.shape[1] :] = 0
    squares = torch.nn.functional.pad(squares, (0, missing))
    blocks = squares.view(squares.shape[0], -1, VOCABULARY_BLOCK).sum(dim=-1)
    blocks = blocks / size.view(-1, VOCABULARY_BLOCK).sum(dim=-1)
    error = (blocks / expected.square().mean(dim=-1, keepdim=True)).sqrt()
    return error.nan_to_num(nan=math.inf, posinf=math.inf).float()[:, None]


def worst(findings: list[Finding]) -> list[Finding]:
    """Of each kind the one nearest to its limit, or farthest over it."""
    by_measure: dict[str, Finding] = {}
    for finding in findings:
        if finding.measure not in by_measure or finding.ratio > by_measure[finding.measure].ratio:
            by_measure[finding.measure] = finding
    return list(by_measure.values())
