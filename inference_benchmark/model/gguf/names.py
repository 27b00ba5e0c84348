"""What GGUF files of Llama's architecture call the tensors of a Hugging Face checkpoint. No torch."""

EMBEDDING, HEAD = "token_embd.weight", "output.weight"  # a file without a head shares the embedding
_OUTER = {
    "model.embed_tokens.weight": EMBEDDING,
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": HEAD,
}
_WITHIN_LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_OUTER_BACK = {gguf_name: name for name, gguf_name in _OUTER.items()}
_WITHIN_LAYER_BACK = {gguf_name: name for name, gguf_name in _WITHIN_LAYER.items()}

ROPE_FACTORS = "rope_freqs.weight"  # by what RoPE's frequencies are divided: not a weight


def to_gguf(name: str) -> str:
    """Of a Hugging Face name.

    Raises:
        KeyError: files of this architecture have no such tensor.
    """
    if name in _OUTER:
        return _OUTER[name]
    _, _, index, within = name.split(".", 3)  # model.layers.7.mlp.up_proj.weight
    return f"blk.{index}.{_WITHIN_LAYER[within]}"


def from_gguf(name: str) -> str:
    """The Hugging Face name. One that has none gets a name that no decoder asks for, so that it is
    reported as a tensor that nothing takes."""
    if name in _OUTER_BACK:
        return _OUTER_BACK[name]
    block, _, rest = name.partition(".")
    index, _, within = rest.partition(".")
    if block == "blk" and index.isdecimal():
        return f"model.layers.{index}.{_WITHIN_LAYER_BACK.get(within, within)}"
    return f"model.{name}"
