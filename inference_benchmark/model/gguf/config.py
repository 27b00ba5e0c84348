"""The model that a GGUF file holds: its settings as a configuration. No torch.

Only Llama's architecture is read: it is also what Mistral's models are stored as. Everything that
can be wrong about a file before its tensors are read is found here, in one line that names it.
"""

import math

from inference_benchmark.errors import printable
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.config_json import Unsupported, demand, number, size
from inference_benchmark.model.gguf.container import Array, GgufError, GgufFile
from inference_benchmark.model.gguf.names import EMBEDDING, HEAD, ROPE_FACTORS
from inference_benchmark.model.parts import (
    DenseFeedForward,
    GroupedQueryAttention,
    Llama3RopeScaling,
    Rope,
    RopeFactors,
)

ARCHITECTURE = "llama"
FAMILIES = ("llama", "mistral")  # whose models are stored under that name
_SPLIT = "split.count"
_FACTOR_TOLERANCE = 1e-5  # of fp32, computed in another order


def model_of(file: GgufFile) -> ModelConfig:
    """
    Raises:
        GgufError: another architecture, or a part of a split file.
        KeyError: a setting is missing.
        Unsupported: a setting has a value that the decoder does not serve.
    """
    architecture = file.settings.get("general.architecture", "none")
    if architecture != ARCHITECTURE:
        raise GgufError(
            f"holds a model of the unsupported architecture {architecture} "
            f"(supported: {ARCHITECTURE})"
        )
    if file.settings.get(_SPLIT, 1) != 1:
        raise GgufError(
            f"is one of {file.settings[_SPLIT]} parts: merge them with llama-gguf-split --merge"
        )
    settings = _own_settings(file)
    hidden_size = size(settings, "embedding_length")
    heads = _heads(settings, hidden_size)
    return ModelConfig(
        name=printable(file.path.stem),
        vocab_size=_vocab_size(file),
        hidden_size=hidden_size,
        num_layers=size(settings, "block_count"),
        attention=GroupedQueryAttention(*heads),
        feed_forward=DenseFeedForward(size(settings, "feed_forward_length")),
        context_length=size(settings, "context_length"),
        rope=_rope(file, settings, heads[2]),
        norm_eps=number(settings, "attention.layer_norm_rms_epsilon"),
        tied_embeddings=HEAD not in file.tensors,
    )


def _own_settings(file: GgufFile) -> dict[str, object]:
    """Those of the architecture, without its name before them; an array counts as what it is: a
    setting that differs from layer to layer."""
    settings = {
        name.removeprefix(f"{ARCHITECTURE}."): value
        for name, value in file.settings.items()
        if name.startswith(f"{ARCHITECTURE}.")
    }
    for name, value in settings.items():
        if isinstance(value, Array):
            raise Unsupported(name, "per layer")
    demand(settings, expert_count=(0,), **{"attention.sliding_window": (0,)})
    return settings


def _heads(settings: dict, hidden_size: int) -> tuple[int, int, int]:
    """(query heads, KV heads, head dimension)."""
    num_heads = size(settings, "attention.head_count")
    num_kv_heads = size(settings, "attention.head_count_kv", default=num_heads)
    head_dim = size(settings, "attention.key_length", default=max(1, hidden_size // num_heads))
    if num_heads % num_kv_heads:
        raise Unsupported("attention.head_count_kv", num_kv_heads)
    if head_dim % 2:
        raise Unsupported("attention.key_length", head_dim)
    for name in ("attention.value_length", "rope.dimension_count"):
        if size(settings, name, default=head_dim) != head_dim:
            raise Unsupported(name, settings[name])
    return num_heads, num_kv_heads, head_dim


def _vocab_size(file: GgufFile) -> int:
    if EMBEDDING not in file.tensors:
        raise GgufError(f"holds no {EMBEDDING}")
    return file.tensors[EMBEDDING].shape[0]


def _rope(file: GgufFile, settings: dict, head_dim: int) -> Rope:
    """Rotated values lie side by side in these files. Factors are a tensor, linear scaling a number."""
    theta = number(settings, "rope.freq_base", 10000.0)
    demand(settings, **{"rope.scaling.type": ("none", "linear")})
    is_linear = settings.get("rope.scaling.type") == "linear"
    factor = number(settings, "rope.scaling.factor", 1.0) if is_linear else 1.0
    factors = [factor] * (head_dim // 2)
    if ROPE_FACTORS in file.tensors:
        factors = [factor * stored for stored in file.fp32_values(ROPE_FACTORS)]
    if len(factors) != head_dim // 2 or not all(0 < value < math.inf for value in factors):
        raise GgufError(f"is damaged: {ROPE_FACTORS} does not hold {head_dim // 2} factors")
    if all(value == 1.0 for value in factors):
        return Rope(theta, None, interleaved=True)
    return Rope(theta, _scaling(theta, factors), interleaved=True)


def _scaling(theta: float, factors: list[float]) -> Llama3RopeScaling | RopeFactors:
    """Llama 3.1's as config.json would say it, where the factors are those of published models: so
    it can be handed on to programs that read no factors."""
    published = Llama3RopeScaling(max(factors))
    same = all(
        math.isclose(factor, expected, rel_tol=_FACTOR_TOLERANCE)
        for factor, expected in zip(
            factors, published.factors(theta, 2 * len(factors)), strict=True
        )
    )
    return published if same and min(factors) < max(factors) else RopeFactors(tuple(factors))
