"""DeepSeek V3: latent attention; three dense layers, then mixtures of 256 experts.

The text model, without multi-token prediction.
"""

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.config_json import (
    Unsupported,
    common,
    demand,
    number,
    size,
    switch,
)
from inference_benchmark.model.family import Family, by_name
from inference_benchmark.model.parts import (
    DenseFeedForward,
    GroupLimitedRouter,
    LatentAttention,
    MixtureOfExperts,
    Rope,
    YarnRopeScaling,
)

_YARN = YarnRopeScaling(40.0, 4096, 32.0, 1.0, mscale=1.0, mscale_all_dim=1.0)
_ATTENTION = LatentAttention(
    num_heads=128,
    query_rank=1536,
    latent_dim=512,
    nope_dim=128,
    rope_dim=64,
    value_dim=128,
    softmax_factor=_YARN.softmax_factor,
)
_EXPERTS = MixtureOfExperts(256, 8, 2048, 2048, GroupLimitedRouter(8, 4, scale=2.5))
_FEED_FORWARD = (DenseFeedForward(18432),) * 3 + (_EXPERTS,) * 58

# fmt: off
PRESETS = by_name(
    #           name              vocab  hidden layers
    ModelConfig("deepseekv3-670b", 129280, 7168, 61, _ATTENTION, _FEED_FORWARD, context_length=163840,
                rope=Rope(10000.0, _YARN, interleaved=True), norm_eps=1e-6, family="deepseek_v3"),
)
# fmt: on


def read(name: str, config: dict) -> ModelConfig:
    demand(config, scoring_func=("sigmoid",), topk_method=("noaux_tc",), moe_layer_freq=(1,))
    if config.get("q_lora_rank") is None:
        raise Unsupported("q_lora_rank", None)
    fields = common(name, config, "deepseek_v3")
    rope = fields.pop("rope")
    is_yarn = isinstance(rope.scaling, YarnRopeScaling)
    attention = LatentAttention(
        num_heads=size(config, "num_attention_heads"),
        query_rank=size(config, "q_lora_rank"),
        latent_dim=size(config, "kv_lora_rank"),
        nope_dim=size(config, "qk_nope_head_dim"),
        rope_dim=size(config, "qk_rope_head_dim"),
        value_dim=size(config, "v_head_dim"),
        softmax_factor=rope.scaling.softmax_factor if is_yarn else 1.0,
    )
    interleaved = switch(config, "rope_interleave", True)
    return ModelConfig(
        **fields,
        rope=Rope(rope.theta, rope.scaling, interleaved),
        attention=attention,
        feed_forward=_feed_forward(config, fields["num_layers"]),
    )


def _feed_forward(config: dict, num_layers: int) -> tuple[DenseFeedForward | MixtureOfExperts, ...]:
    width = size(config, "moe_intermediate_size")
    mixture = MixtureOfExperts(
        size(config, "n_routed_experts"),
        size(config, "num_experts_per_tok"),
        width,
        width * size(config, "n_shared_experts"),
        GroupLimitedRouter(
            size(config, "n_group"),
            size(config, "topk_group"),
            number(config, "routed_scaling_factor"),
            switch(config, "norm_topk_prob", True),
        ),
    )
    no_dense = config["first_k_dense_replace"] == 0
    num_dense = 0 if no_dense else min(size(config, "first_k_dense_replace"), num_layers)
    dense = DenseFeedForward(size(config, "intermediate_size"))
    return (dense,) * num_dense + (mixture,) * (num_layers - num_dense)


FAMILY = Family(
    "deepseek_v3",
    PRESETS,
    {"DeepseekV3ForCausalLM": read},
    tensor_names={"mlp.router": "mlp.gate", "mlp.shared_expert": "mlp.shared_experts"},
    extra_layer_tensor="eh_proj.weight",  # joins the two inputs of a multi-token prediction layer
)
