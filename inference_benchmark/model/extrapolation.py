"""From two depths to the full model: time = fixed + per layer, two measurements, two unknowns.

Embedding, head and whatever a step costs once are the same at any depth, and layers of one kind
take the same time each. So the difference between LARGE and SMALL layers is the time of the layers
between them, and the rest of the model takes that as many times over as those layers fit into it:

    time(full) = time(SMALL) + weight * (time(LARGE) - time(SMALL))

Where layers are of several kinds, one weight has to fit all of them: every kind must have the same
share of the layers from SMALL to LARGE as of all layers above SMALL. No torch.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from inference_benchmark.errors import RequestError
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.parts import GroupedQueryAttention, LayerConfig, MixtureOfExperts

_DEFAULT_DEPTHS = (4, 8)


@dataclass(frozen=True)
class Extrapolation:
    """How the full model's time follows from those of two depths of it."""

    from_layers: tuple[int, int]
    to_layers: int

    @property
    def weight(self) -> float:
        small, large = self.from_layers
        return (self.to_layers - small) / (large - small)

    def estimate(self, small: float, large: float) -> float:
        """The full model's time (or anything that is a sum over layers) from the two depths'."""
        return small + self.weight * (large - small)

    def record(self) -> dict:
        """For the result file."""
        return asdict(self) | {"from_layers": list(self.from_layers), "weight": self.weight}


def choose(model: ModelConfig, depths: tuple[int, ...]) -> Extrapolation:
    """From these two depths; from 4 and 8 layers, or the least that will do, where none are given.

    Raises:
        RequestError: not two depths below the model's own, or a kind of layer isn't measured.
    """
    if not depths:
        return Extrapolation(_default(model), model.num_layers)
    if len(depths) != 2:
        raise RequestError(f"--extrapolate takes two depths or none, not {len(depths)}")
    small, large = depths
    asked = flag((small, large))
    if not small < large:
        raise RequestError(f"{asked}: the first depth has to be the smaller one")
    if large >= model.num_layers:
        raise RequestError(
            f"{asked}: {model.name} has {model.num_layers} layers; {flag(_default(model))} would do, "
            "or leave it out to measure all of them"
        )
    problem = _problem(model, small, large)
    if problem is not None:
        pair = _nearest(model, large)
        advice = "no two depths would do" if pair is None else f"{flag(pair)} would do"
        raise RequestError(f"{asked}: {problem}; {advice}")
    return Extrapolation((small, large), model.num_layers)


def flag(depths: tuple[int, int]) -> str:
    return f"--extrapolate {depths[0]} {depths[1]}"


def pairs(model: ModelConfig) -> Iterator[tuple[int, int]]:
    """All depths that will do, (SMALL, LARGE), by LARGE, the longest steps first."""
    layers = _numbered(model)
    for large in range(2, model.num_layers):
        for small in range(1, large):
            if _not_in_proportion(layers, small, large) is None:
                yield small, large


def _default(model: ModelConfig) -> tuple[int, int]:
    depths = _DEFAULT_DEPTHS
    if depths[1] < model.num_layers and _problem(model, *depths) is None:
        return depths
    least = next(pairs(model), None)
    if least is None:
        raise RequestError(f"--extrapolate: no two depths of {model.name} lead to an estimate")
    return least


def _nearest(model: ModelConfig, large: int) -> tuple[int, int] | None:
    """Depths that will do, at most as deep as asked for if there are any."""
    depths = list(pairs(model))
    fitting = [pair for pair in depths if pair[1] <= large] or depths[:1]
    return max(fitting, key=lambda pair: (pair[1], -pair[0]), default=None)


def _problem(model: ModelConfig, small: int, large: int) -> str | None:
    """Which kind of layer these depths hold too few or too many of."""
    layers = _numbered(model)
    number = _not_in_proportion(layers, small, large)
    if number is None:
        return None
    step = layers[small:large].count(number)
    return (
        f"between {small} and {large} layers {model.name} has {step or 'none'} of its "
        f"{layers.count(number)} layers with {_name(model.layer_kinds[number])}"
        f"{', out of proportion to the rest' if step else ''}"
    )


def _numbered(model: ModelConfig) -> list[int]:
    """The kind of each layer, as its place in model.layer_kinds."""
    return list(map(model.layer_kinds.index, model.layers))


def _not_in_proportion(layers: list[int], small: int, large: int) -> int | None:
    """A layer type that is more or less frequent among the layers between small and large than
    among all layers above small; of several the one with the fewest layers between them."""
    between, above = Counter(layers[small:large]), Counter(layers[small:])
    wrong = [
        layer_type
        for layer_type in dict.fromkeys(layers)
        if between[layer_type] * (len(layers) - small) != above[layer_type] * (large - small)
    ]
    return min(wrong, key=lambda layer_type: between[layer_type], default=None)


def _name(layer: LayerConfig) -> str:
    attention, feed_forward = layer.attention, layer.feed_forward
    name = "attention"
    if not isinstance(attention, GroupedQueryAttention):
        name = "latent attention"
    elif attention.chunk_size:
        name = "chunked attention"
    elif not attention.uses_rope:
        name = "attention without RoPE"
    is_mixture = isinstance(feed_forward, MixtureOfExperts)
    experts = f"{feed_forward.num_experts} experts" if is_mixture else "a dense feed-forward"
    return f"{name} and {experts}"
