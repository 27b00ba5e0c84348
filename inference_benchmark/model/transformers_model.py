"""The same model as the transformers library builds it, from the same configuration."""

import torch
from torch import Tensor, nn

from inference_benchmark.model.implementation import PlainConfig


class TransformersModel(nn.Module):
    """transformers' causal language model with its own attention over PyTorch's SDPA.

    Generation goes through its static cache, whose tensors are the session's caches.
    """

    def __init__(self, config) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        self.inner = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.inner(input_ids, use_cache=False).logits

    def decode(self, input_ids: Tensor, position: Tensor, caches) -> Tensor:
        length = input_ids.shape[1]
        positions = torch.arange(length, device=input_ids.device)
        if length == 1:
            positions = position
        cache = _static_cache(self.inner.config, caches)
        start = position.reshape(()) if length == 1 else torch.zeros_like(position).reshape(())
        for layer in cache.layers:  # each counts on its own
            layer.cumulative_length = start.clone()
        output = self.inner(
            input_ids,
            past_key_values=cache,
            cache_position=positions,
            position_ids=positions[None],
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def load_weights(self, weights) -> None:
        parameters = dict(self.inner.named_parameters())
        for name, weight in weights.items():
            parameters[name].copy_(weight)


def _static_cache(config, caches):
    from transformers import StaticCache

    cache = StaticCache(config, max_cache_len=caches[0][0].shape[2])
    for layer, (keys, values) in zip(cache.layers, caches, strict=True):
        layer.keys, layer.values = keys, values
        layer.is_initialized = True
        layer.max_batch_size = keys.shape[0]
        layer.dtype, layer.device = keys.dtype, keys.device
    return cache


def build(config: PlainConfig) -> nn.Module:
    from transformers import AutoConfig

    settings = config.as_dict()
    model_type = settings.pop("model_type")
    del settings["qk_norm"]
    rope = {"rope_type": "default", "rope_theta": settings.pop("rope_theta")}
    settings["rope_parameters"] = rope | (settings.pop("rope_scaling") or {})
    if model_type == "mistral":
        settings["sliding_window"] = None
    return TransformersModel(AutoConfig.for_model(model_type, **settings))
