"""Llama 4: three layers with RoPE and chunked attention, then one without either; mixtures whose
router weighs an expert's input. The text model."""

from dataclasses import replace

from inference_benchmark.model.config import ModelConfig, every
from inference_benchmark.model.config_json import (
    Unsupported,
    common,
    heads,
    number,
    per_layer,
    size,
    switch,
)
from inference_benchmark.model.family import Family, by_name
from inference_benchmark.model.parts import (
    AttentionTemperature,
    DenseFeedForward,
    GroupedQueryAttention,
    InputRouter,
    Llama3RopeScaling,
    MixtureOfExperts,
    Rope,
)

_SCOUT_ROPE = Rope(500000.0, Llama3RopeScaling(16.0, 1.0, 1.0, 8192), interleaved=True)
_MAVERICK_ROPE = Rope(500000.0, interleaved=True)


def _attention(normalizes_qk: bool) -> tuple[GroupedQueryAttention, ...]:
    """Three layers with RoPE and chunks of 8192 tokens, then one without either."""
    plain = GroupedQueryAttention(40, 8, 128)
    chunked = replace(plain, normalizes_qk=normalizes_qk, chunk_size=8192)
    nope = replace(plain, uses_rope=False, temperature=AttentionTemperature())
    return every(4, nope, chunked, 48)


_SCOUT_EXPERTS = MixtureOfExperts(16, 1, 8192, 8192, InputRouter())
_MAVERICK_EXPERTS = MixtureOfExperts(128, 1, 8192, 8192, InputRouter())
_MAVERICK_LAYERS = every(2, _MAVERICK_EXPERTS, DenseFeedForward(16384), 48)

# fmt: off
PRESETS = by_name(
    #           name                vocab  hidden layers attention                       feed-forward    context   RoPE
    ModelConfig("llama4-scout",    202048, 5120, 48, _attention(normalizes_qk=True),  _SCOUT_EXPERTS,  10485760, _SCOUT_ROPE,
                family="llama4"),
    ModelConfig("llama4-maverick", 202048, 5120, 48, _attention(normalizes_qk=False), _MAVERICK_LAYERS, 1048576, _MAVERICK_ROPE,
                family="llama4"),
)
# fmt: on


def read(name: str, config: dict) -> ModelConfig:
    fields = common(name, config, "llama4", default_theta=500000.0)
    rope, num_layers = fields.pop("rope"), fields["num_layers"]
    ropes = _uses_rope(config, num_layers)
    types = per_layer(config, "layer_types", num_layers) or [
        "chunked_attention" if uses_rope else "full_attention" for uses_rope in ropes
    ]
    mixtures = _mixture_layers(config, num_layers)
    width = size(config, "intermediate_size")
    num_experts, per_token = size(config, "num_local_experts"), size(config, "num_experts_per_tok")
    mixture = MixtureOfExperts(num_experts, per_token, width, width, InputRouter())
    dense = DenseFeedForward(size(config, "intermediate_size_mlp"))
    return ModelConfig(
        **fields,
        rope=Rope(rope.theta, rope.scaling, interleaved=True),
        attention=tuple(
            _layer_attention(config, uses_rope, layer_type)
            for uses_rope, layer_type in zip(ropes, types, strict=True)
        ),
        feed_forward=tuple(mixture if i in mixtures else dense for i in range(num_layers)),
    )


def _uses_rope(config: dict, num_layers: int) -> list[bool]:
    """Of each layer; `no_rope_layers` lists 1 for those that do."""
    listed = per_layer(config, "no_rope_layers", num_layers)
    if listed:
        return [bool(entry) for entry in listed]
    interval = size(config, "no_rope_layer_interval", default=4)
    return [(i + 1) % interval != 0 for i in range(num_layers)]


def _mixture_layers(config: dict, num_layers: int) -> set[int]:
    listed = config.get("moe_layers")
    if listed is None:
        step = size(config, "interleave_moe_layer_step", default=1)
        return {i for i in range(num_layers) if (i + 1) % step == 0}
    if not isinstance(listed, list) or not all(type(i) is int for i in listed):
        raise Unsupported("moe_layers", listed)
    return set(listed)


def _layer_attention(config: dict, uses_rope: bool, layer_type: str) -> GroupedQueryAttention:
    tunes = switch(config, "attn_temperature_tuning", True) and not uses_rope
    temperature = AttentionTemperature(
        size(config, "floor_scale", default=8192), number(config, "attn_scale", default=0.1)
    )
    is_chunked = layer_type == "chunked_attention"
    return GroupedQueryAttention(
        *heads(config),
        uses_rope=uses_rope,
        normalizes_qk=switch(config, "use_qk_norm", True) and uses_rope,
        chunk_size=size(config, "attention_chunk_size", default=8192) if is_chunked else None,
        temperature=temperature if tunes else None,
    )


def _read_text_model(name: str, config: dict) -> ModelConfig:
    """A multimodal checkpoint: its text model alone is built."""
    text = config["text_config"]
    if not isinstance(text, dict):
        raise Unsupported("text_config", text)
    return read(name, {**text, "quantization_config": config.get("quantization_config")})


FAMILY = Family(
    "llama4",
    PRESETS,
    {"Llama4ForCausalLM": read, "Llama4ForConditionalGeneration": _read_text_model},
    tensor_names={"mlp": "feed_forward"},
    experts_input_first=True,
)
