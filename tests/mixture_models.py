"""Small DeepSeek V3 and Llama 4 models of every layer kind, and transformers' own beside them."""

from dataclasses import replace

import torch
from torch import nn

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.parts import (
    AttentionTemperature,
    DenseFeedForward,
    GroupedQueryAttention,
    GroupLimitedRouter,
    InputRouter,
    LatentAttention,
    Llama3RopeScaling,
    MixtureOfExperts,
    Rope,
    YarnRopeScaling,
)

VOCAB = 97

# A short original context, so that stretched, kept and blended frequencies all occur, and factors
# on both the tables and the softmax.
YARN = YarnRopeScaling(4.0, 32, 32.0, 1.0, mscale=1.0, mscale_all_dim=0.7)
DEEPSEEK = ModelConfig(
    "small-deepseek",
    vocab_size=VOCAB,
    hidden_size=64,
    num_layers=3,
    attention=LatentAttention(
        num_heads=4,
        query_rank=24,
        latent_dim=32,
        nope_dim=16,
        rope_dim=16,
        value_dim=12,
        softmax_factor=YARN.softmax_factor,
    ),
    feed_forward=(DenseFeedForward(96),)
    + (MixtureOfExperts(16, 4, 24, 24, GroupLimitedRouter(4, 2, scale=2.5)),) * 2,
    context_length=128,
    rope=Rope(10000.0, YARN, interleaved=True),
    norm_eps=1e-6,
    family="deepseek_v3",
)

# Chunks and a temperature that both begin to matter within the tests' context.
_CHUNKED = GroupedQueryAttention(4, 2, 16, normalizes_qk=True, chunk_size=16)
_NOPE = GroupedQueryAttention(4, 2, 16, uses_rope=False, temperature=AttentionTemperature(8, 0.3))
_EXPERTS = MixtureOfExperts(8, 1, 32, 32, InputRouter())
LLAMA4 = ModelConfig(
    "small-llama4",
    vocab_size=VOCAB,
    hidden_size=64,
    num_layers=4,
    attention=(_CHUNKED, _CHUNKED, _CHUNKED, _NOPE),
    feed_forward=(DenseFeedForward(80), _EXPERTS, DenseFeedForward(80), _EXPERTS),
    context_length=128,
    rope=Rope(500000.0, Llama3RopeScaling(4.0, 1.0, 1.0, 32), interleaved=True),
    family="llama4",
)

# Every part that is new to a compiler, in two layers: what costs it is each type of layer.
SHALLOW_DEEPSEEK = replace(DEEPSEEK, num_layers=2, feed_forward=DEEPSEEK.feed_forward[1:])
SHALLOW_LLAMA4 = replace(
    LLAMA4, num_layers=2, attention=(_CHUNKED, _NOPE), feed_forward=LLAMA4.feed_forward[:2]
)
# The same where chunks and temperature do not matter yet, as in all but long contexts.
SHORT_LLAMA4 = replace(
    SHALLOW_LLAMA4,
    name="short-llama4",
    attention=(
        replace(_CHUNKED, chunk_size=64),
        replace(_NOPE, temperature=AttentionTemperature(64, 0.3)),
    ),
)


def hugging_face(config: ModelConfig) -> nn.Module:
    build = {"deepseek_v3": _deepseek, "llama4": _llama4}[config.family]
    torch.manual_seed(0)
    reference = build(config).eval().requires_grad_(False)
    for name, parameter in reference.named_parameters():
        if parameter.dim() == 1:  # norms of ones would hide a swapped or a missing one
            nn.init.normal_(parameter, 1.0, 0.2)
        else:
            nn.init.normal_(parameter, 0.0, parameter.shape[-1] ** -0.5)
            if "router" in name or "mlp.gate." in name:
                parameter.mul_(2)  # scores well apart
    for name, buffer in reference.named_buffers():
        if "e_score_correction_bias" in name:
            nn.init.normal_(buffer, 0.0, 0.1)
    return reference


def _deepseek(config: ModelConfig) -> nn.Module:
    import transformers  # takes a second, and most of those who want a config have no use for it

    attention, mixture = config.attention, config.feed_forward[-1]
    scaling = config.rope.scaling
    return transformers.DeepseekV3ForCausalLM(
        transformers.DeepseekV3Config(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=DEEPSEEK.feed_forward[0].intermediate_size,
            moe_intermediate_size=mixture.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=attention.num_heads,
            num_key_value_heads=attention.num_heads,
            n_routed_experts=mixture.num_experts,
            num_experts_per_tok=mixture.experts_per_token,
            n_group=mixture.router.num_groups,
            topk_group=mixture.router.groups_per_token,
            routed_scaling_factor=mixture.router.scale,
            kv_lora_rank=attention.latent_dim,
            q_lora_rank=attention.query_rank,
            qk_rope_head_dim=attention.rope_dim,
            qk_nope_head_dim=attention.nope_dim,
            v_head_dim=attention.value_dim,
            first_k_dense_replace=_num_dense(config),
            rms_norm_eps=config.norm_eps,
            max_position_embeddings=config.context_length,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": config.rope.theta,
                "factor": scaling.factor,
                "original_max_position_embeddings": scaling.original_context_length,
                "beta_fast": scaling.beta_fast,
                "beta_slow": scaling.beta_slow,
                "mscale": scaling.mscale,
                "mscale_all_dim": scaling.mscale_all_dim,
            },
            attn_implementation="eager",
        )
    )


def _num_dense(config: ModelConfig) -> int:
    return sum(isinstance(part, DenseFeedForward) for part in config.feed_forward)


def _llama4(config: ModelConfig) -> nn.Module:
    import transformers

    chunked, nope = config.attention[0], config.attention[-1]
    dense, mixture = config.feed_forward[:2]
    scaling = config.rope.scaling
    return transformers.Llama4ForCausalLM(
        transformers.Llama4TextConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=mixture.intermediate_size,
            intermediate_size_mlp=dense.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=chunked.num_heads,
            num_key_value_heads=chunked.num_kv_heads,
            head_dim=chunked.head_dim,
            num_local_experts=mixture.num_experts,
            num_experts_per_tok=mixture.experts_per_token,
            interleave_moe_layer_step=2,
            no_rope_layers=[int(attention.uses_rope) for attention in config.attention],
            use_qk_norm=chunked.normalizes_qk,
            attention_chunk_size=chunked.chunk_size,
            floor_scale=nope.temperature.floor_scale,
            attn_scale=nope.temperature.scale,
            rms_norm_eps=config.norm_eps,
            max_position_embeddings=config.context_length,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": config.rope.theta,
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context_length,
            },
            pad_token_id=None,
            attn_implementation="eager",
        )
    )


@torch.inference_mode()
def logits_and_choices(reference: nn.Module, ids: torch.Tensor):
    """All positions at once: logits [batch, length, vocab], and of each mixture the chosen experts
    [batch, length, k]."""
    choices = []

    def of_deepseek(module, inputs, outputs):
        choices.append(outputs[2])

    def of_llama4(module, inputs, outputs):
        choices.append(torch.topk(outputs[1], module.top_k, dim=-1).indices)

    hooks = {"DeepseekV3TopkRouter": of_deepseek, "Llama4Router": of_llama4}
    handles = [
        module.register_forward_hook(hooks[type(module).__name__])
        for module in reference.modules()
        if type(module).__name__ in hooks
    ]
    logits = reference(ids, use_cache=False).logits
    for handle in handles:
        handle.remove()
    return logits, [choice.view(*ids.shape, -1) for choice in choices]
