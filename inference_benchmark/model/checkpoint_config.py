"""A local Hugging Face folder, read without torch: what model it holds, and in which files.

Everything that can be wrong about a checkpoint before its tensors are read is found here, in one
line that names it. Only safetensors files are read: a pickle can run code when it is opened.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from inference_benchmark.models import (
    AttentionTemperature,
    DenseFeedForward,
    GroupedQueryAttention,
    GroupLimitedRouter,
    InputRouter,
    LatentAttention,
    Llama3RopeScaling,
    MixtureOfExperts,
    ModelConfig,
    Rope,
    YarnRopeScaling,
)

_INDEX = "model.safetensors.index.json"
_REFUSED = {
    ".gguf": "a GGUF file, which is quantised for other programs",
    ".bin": "a pickle, which can run code when it is opened",
    ".pt": "a pickle, which can run code when it is opened",
    ".pth": "a pickle, which can run code when it is opened",
}


class CheckpointError(RuntimeError):
    """The checkpoint can't be read; the message is one line that names what is wrong."""


def read_model(folder: Path, expected: ModelConfig | None = None) -> ModelConfig:
    """The model that a folder holds, named after the folder, or as expected if it is that one.

    Raises:
        CheckpointError: no such folder, no supported model in it, or not the expected one.
    """
    weight_files(folder)
    config = _read_json(folder / "config.json")
    names = config.get("architectures") or ["none"]
    parse = _PARSERS.get(names[0])
    if parse is None:
        valid = ", ".join(_PARSERS)
        raise CheckpointError(f"{folder}: unsupported architecture {names[0]} (supported: {valid})")
    try:
        model = parse(folder.resolve().name, config)
    except KeyError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error} is missing") from None
    except Unsupported as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error} is not supported") from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} makes no sense: {error}") from None
    return model if expected is None else _as_expected(folder, model, expected)


def _as_expected(folder: Path, found: ModelConfig, expected: ModelConfig) -> ModelConfig:
    if found.architecture != expected.architecture:
        raise CheckpointError(
            f"{folder}: expected {expected.architecture}, found {found.architecture}"
        )
    sizes = [(m.num_layers, m.hidden_size, m.vocab_size, m.parameters) for m in (expected, found)]
    if sizes[0] != sizes[1]:
        wanted, there = (
            f"{layers} layers, hidden size {hidden}, vocabulary {vocab}, {total / 1e9:.2f} B"
            for layers, hidden, vocab, total in sizes
        )
        raise CheckpointError(f"{folder}: expected {expected.name} ({wanted}), found {there}")
    return replace(found, name=expected.name)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder, in the order of their names.

    Raises:
        CheckpointError: there are none, or one that the index names is missing.
    """
    _check_folder(folder)
    if (folder / _INDEX).exists():
        index = _read_json(folder / _INDEX)
        files = [folder / name for name in sorted(set(index.get("weight_map", {}).values()))]
        for file in files:
            if not file.exists():
                raise CheckpointError(f"{file} is missing, which {_INDEX} names")
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} holds no safetensors files{_what_it_holds(folder)}")
    return tuple(files)


def _check_folder(folder: Path) -> None:
    if folder.suffix in _REFUSED and not folder.is_dir():
        raise CheckpointError(f"{folder} is {_REFUSED[folder.suffix]}: give a safetensors folder")
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder with config.json and safetensors files")
    if not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds no config.json{_what_it_holds(folder)}")


def _what_it_holds(folder: Path) -> str:
    refused = sorted(file for file in folder.iterdir() if file.suffix in _REFUSED)
    return f", but {refused[0].name}, {_REFUSED[refused[0].suffix]}" if refused else ""


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


class Unsupported(ValueError):
    """A setting of config.json that the decoder does not have."""


def _demand(config: dict, **settings) -> None:
    """Every setting, where config.json has it, is one of the given values."""
    for name, allowed in settings.items():
        if name in config and config[name] not in allowed:
            raise Unsupported(f"{name} {json.dumps(config[name])}")


def _size(config: dict, name: str) -> int:
    value = config[name]
    if not isinstance(value, int) or value < 1:
        raise Unsupported(f"{name} {json.dumps(value)}")
    return value


def _common(name: str, config: dict, architecture: str, default_theta: float) -> dict:
    """What ModelConfig takes of every architecture alike."""
    _demand(
        config,
        hidden_act=("silu",),
        attention_bias=(False, None),
        mlp_bias=(False, None),
        quantization_config=(None,),
    )
    return {
        "name": name,
        "vocab_size": _size(config, "vocab_size"),
        "hidden_size": _size(config, "hidden_size"),
        "num_layers": _size(config, "num_hidden_layers"),
        "context_length": _size(config, "max_position_embeddings"),
        "rope": _rope(config, default_theta),
        "norm_eps": config["rms_norm_eps"],
        "tied_embeddings": bool(config.get("tie_word_embeddings", False)),
        "architecture": architecture,
    }


def _rope(config: dict, default_theta: float) -> Rope:
    """`rope_parameters` is how transformers 5 writes what were `rope_scaling` and `rope_theta`."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta", config.get("rope_theta", default_theta))
    _demand(rope, partial_rotary_factor=(1, None), attention_factor=(None,), truncate=(True, None))
    kind = rope.get("rope_type", rope.get("type", "default"))
    scalings: dict[str, Callable[[dict], Llama3RopeScaling | YarnRopeScaling | None]] = {
        "default": lambda rope: None,
        "llama3": _llama3_scaling,
        "yarn": _yarn_scaling,
    }
    if kind not in scalings:
        raise Unsupported(f"RoPE scaling {kind}")
    return Rope(theta, scalings[kind](rope))


def _llama3_scaling(rope: dict) -> Llama3RopeScaling:
    return Llama3RopeScaling(
        rope["factor"],
        rope["low_freq_factor"],
        rope["high_freq_factor"],
        rope["original_max_position_embeddings"],
    )


def _yarn_scaling(rope: dict) -> YarnRopeScaling:
    return YarnRopeScaling(
        rope["factor"],
        rope["original_max_position_embeddings"],
        rope.get("beta_fast") or 32.0,
        rope.get("beta_slow") or 1.0,
        rope.get("mscale") or 0.0,
        rope.get("mscale_all_dim") or 0.0,
    )


def _heads(config: dict) -> tuple[int, int, int]:
    """(query heads, KV heads, head dimension)."""
    heads = _size(config, "num_attention_heads")
    kv_heads = config.get("num_key_value_heads") or heads
    return heads, kv_heads, config.get("head_dim") or config["hidden_size"] // heads


def _llama(name: str, config: dict) -> ModelConfig:
    return ModelConfig(
        **_common(name, config, "llama", default_theta=10000.0),
        attention=GroupedQueryAttention(*_heads(config)),
        feed_forward=DenseFeedForward(config["intermediate_size"]),
    )


def _deepseek_v3(name: str, config: dict) -> ModelConfig:
    _demand(config, scoring_func=("sigmoid",), topk_method=("noaux_tc",), moe_layer_freq=(1,))
    if not config.get("q_lora_rank"):
        raise Unsupported("q_lora_rank null")
    common = _common(name, config, "deepseek_v3", default_theta=10000.0)
    rope = common.pop("rope")
    is_yarn = isinstance(rope.scaling, YarnRopeScaling)
    attention = LatentAttention(
        num_heads=_size(config, "num_attention_heads"),
        query_rank=config["q_lora_rank"],
        latent_dim=config["kv_lora_rank"],
        nope_dim=config["qk_nope_head_dim"],
        rope_dim=config["qk_rope_head_dim"],
        value_dim=config["v_head_dim"],
        softmax_factor=rope.scaling.softmax_factor if is_yarn else 1.0,
    )
    width = config["moe_intermediate_size"]
    mixture = MixtureOfExperts(
        config["n_routed_experts"],
        config["num_experts_per_tok"],
        width,
        width * config["n_shared_experts"],
        GroupLimitedRouter(
            config["n_group"],
            config["topk_group"],
            config["routed_scaling_factor"],
            config.get("norm_topk_prob", True),
        ),
    )
    num_layers = common["num_layers"]
    num_dense = min(config["first_k_dense_replace"], num_layers)
    dense = DenseFeedForward(config["intermediate_size"])
    return ModelConfig(
        **common,
        rope=Rope(rope.theta, rope.scaling, interleaved=config.get("rope_interleave", True)),
        attention=attention,
        feed_forward=(dense,) * num_dense + (mixture,) * (num_layers - num_dense),
    )


def _llama4(name: str, config: dict) -> ModelConfig:
    common = _common(name, config, "llama4", default_theta=500000.0)
    rope, layers = common.pop("rope"), range(common["num_layers"])
    interval = config.get("no_rope_layer_interval", 4)
    ropes = config.get("no_rope_layers") or [(i + 1) % interval != 0 for i in layers]
    types = config.get("layer_types") or [
        "chunked_attention" if uses_rope else "full_attention" for uses_rope in ropes
    ]
    step = config.get("interleave_moe_layer_step", 1)
    mixtures = config.get("moe_layers")
    if mixtures is None:
        mixtures = [i for i in layers if (i + 1) % step == 0]
    mixture = MixtureOfExperts(
        config["num_local_experts"],
        config["num_experts_per_tok"],
        config["intermediate_size"],
        config["intermediate_size"],
        InputRouter(),
    )
    dense = DenseFeedForward(config["intermediate_size_mlp"])
    return ModelConfig(
        **common,
        rope=Rope(rope.theta, rope.scaling, interleaved=True),
        attention=tuple(_llama4_attention(config, ropes[i], types[i]) for i in layers),
        feed_forward=tuple(mixture if i in mixtures else dense for i in layers),
    )


def _llama4_attention(config: dict, uses_rope: int, layer_type: str) -> GroupedQueryAttention:
    tunes = config.get("attn_temperature_tuning", True) and not uses_rope
    temperature = AttentionTemperature(
        config.get("floor_scale", 8192), config.get("attn_scale", 0.1)
    )
    is_chunked = layer_type == "chunked_attention"
    return GroupedQueryAttention(
        *_heads(config),
        uses_rope=bool(uses_rope),
        normalizes_qk=bool(config.get("use_qk_norm", True) and uses_rope),
        chunk_size=config.get("attention_chunk_size", 8192) if is_chunked else None,
        temperature=temperature if tunes else None,
    )


def _llama4_text(name: str, config: dict) -> ModelConfig:
    """A multimodal checkpoint: its text model alone is built."""
    quantised = {"quantization_config": config.get("quantization_config")}
    return _llama4(name, {**config["text_config"], **quantised})


_PARSERS: dict[str, Callable[[str, dict], ModelConfig]] = {
    "LlamaForCausalLM": _llama,
    "DeepseekV3ForCausalLM": _deepseek_v3,
    "Llama4ForCausalLM": _llama4,
    "Llama4ForConditionalGeneration": _llama4_text,
}
