"""A model's config.json: checked values, what all families have in common, and how it is written.
No torch.

A reader may raise KeyError (a setting is missing) and Unsupported (one has a value that the decoder
does not serve); checkpoint_config.py turns both into one line.
"""

import json
import math
from collections.abc import Callable

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.parts import Llama3RopeScaling, Rope, RopeFactors, YarnRopeScaling

# Larger than in any model, and small enough for what is computed from them to end soon.
_LARGEST = {"num_hidden_layers": 1024, "block_count": 1024}  # of config.json, of GGUF
_LARGEST_NUMBER = 2**31


class Unsupported(ValueError):
    """A setting of config.json that the decoder does not have, or a value that is none."""

    def __init__(self, name: str, value: object) -> None:
        super().__init__(f"{name} {_shortened(json.dumps(value))}")


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def demand(config: dict, **settings: tuple) -> None:
    """Every setting, where config.json has it, is one of the given values."""
    for name, allowed in settings.items():
        value = config.get(name, allowed[0])
        if not any(value == good and type(value) is type(good) for good in allowed):
            raise Unsupported(name, value)


def size(config: dict, name: str, default: int | None = None) -> int:
    """A positive whole number; the default stands for a setting that is absent or null."""
    value = config[name] if default is None else config.get(name)
    if value is None and default is not None:
        return default
    largest = _LARGEST.get(name, _LARGEST_NUMBER)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise Unsupported(name, value)
    return value


def number(config: dict, name: str, default: float | None = None) -> float:
    """A positive, finite number; the default stands for a setting that is absent or null."""
    value = config[name] if default is None else config.get(name)
    if value is None and default is not None:
        return default
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise Unsupported(name, value)
    return value


def switch(config: dict, name: str, default: bool) -> bool:
    """True or false, or null for the default."""
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise Unsupported(name, value)
    return default if value is None else value


def per_layer(config: dict, name: str, num_layers: int) -> list | None:
    """A list with an entry for each layer, or None where there is none."""
    value = config.get(name)
    if value and (not isinstance(value, list) or len(value) != num_layers):
        raise Unsupported(name, value)
    return value or None


def common(name: str, config: dict, family: str, default_theta: float = 10000.0) -> dict:
    """What ModelConfig takes of every family alike."""
    demand(
        config,
        hidden_act=("silu",),
        attention_bias=(False, None),
        mlp_bias=(False, None),
        quantization_config=(None,),
    )
    return {
        "name": name,
        "vocab_size": size(config, "vocab_size"),
        "hidden_size": size(config, "hidden_size"),
        "num_layers": size(config, "num_hidden_layers"),
        "context_length": size(config, "max_position_embeddings"),
        "rope": _rope(config, default_theta),
        "norm_eps": number(config, "rms_norm_eps"),
        "tied_embeddings": switch(config, "tie_word_embeddings", False),
        "family": family,
    }


def heads(config: dict) -> tuple[int, int, int]:
    """(query heads, KV heads, head dimension)."""
    num_heads = size(config, "num_attention_heads")
    num_kv_heads = size(config, "num_key_value_heads", default=num_heads)
    head_dim = size(config, "head_dim", default=max(1, size(config, "hidden_size") // num_heads))
    if num_heads % num_kv_heads:
        raise Unsupported("num_key_value_heads", num_kv_heads)
    if head_dim % 2:
        raise Unsupported("head_dim", head_dim)
    return num_heads, num_kv_heads, head_dim


def _rope(config: dict, default_theta: float) -> Rope:
    """`rope_parameters` is how transformers 5 writes what were `rope_scaling` and `rope_theta`."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise Unsupported("rope_parameters", rope)
    theta = number(rope, "rope_theta", number(config, "rope_theta", default_theta))
    demand(rope, partial_rotary_factor=(1, 1.0, None), attention_factor=(None,))
    demand(rope, truncate=(True, None))
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(rope_type, str) or rope_type not in _SCALINGS:
        raise Unsupported("RoPE scaling", rope_type)
    return Rope(theta, _SCALINGS[rope_type](rope))


def _llama3_scaling(rope: dict) -> Llama3RopeScaling:
    return Llama3RopeScaling(
        number(rope, "factor"),
        number(rope, "low_freq_factor"),
        number(rope, "high_freq_factor"),
        size(rope, "original_max_position_embeddings"),
    )


def _yarn_scaling(rope: dict) -> YarnRopeScaling:
    return YarnRopeScaling(
        number(rope, "factor"),
        size(rope, "original_max_position_embeddings"),
        number(rope, "beta_fast", 32.0),
        number(rope, "beta_slow", 1.0),
        number(rope, "mscale", 0.0) if rope.get("mscale") else 0.0,
        number(rope, "mscale_all_dim", 0.0) if rope.get("mscale_all_dim") else 0.0,
    )


def written(model: ModelConfig, architecture: str, model_type: str) -> dict:
    """The config.json of a dense model with grouped-query attention in all layers.

    `rope_scaling` and `rope_theta` are what transformers reads in every version, and other programs.
    """
    (layer,) = model.layer_kinds
    attention, feed_forward = layer.attention, layer.feed_forward
    config = {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": model.hidden_size,
        "intermediate_size": feed_forward.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.context_length,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope.theta,
        "tie_word_embeddings": model.tied_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return config | (
        {"rope_scaling": _written_scaling(model.rope.scaling)} if model.rope.scaling else {}
    )


def _written_scaling(scaling: Llama3RopeScaling | YarnRopeScaling | RopeFactors) -> dict:
    if not isinstance(scaling, Llama3RopeScaling):
        raise CannotRun(f"a config.json of Llama's can't say {type(scaling).__name__}")
    return scaling.config_json()


_SCALINGS: dict[str, Callable[[dict], Llama3RopeScaling | YarnRopeScaling | None]] = {
    "default": lambda rope: None,
    "llama3": _llama3_scaling,
    "yarn": _yarn_scaling,
}
