"""The forward of training: tokens and targets to a loss, made of the decoder's pure functions.

It is the forward without a cache, in plain PyTorch operations, which have gradients. The logits are
a compiler's to fuse with the loss: they are in the weights' type, the loss in fp32.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from inference_benchmark.model.decoder import Decoder, Transform
from inference_benchmark.model.functions import make_layer
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.norm import rms_norm

# The kernels of ours are forward only.
TRAINING_KERNELS = KernelConfig()


class LossForward(nn.Module):
    """The mean cross-entropy of all positions.

    Args:
        decoder: the weights that are trained.
        transform: applied once to each distinct pure function, as in decoder.Forward.
        checkpointing: keep a layer's inputs only, and compute it again in the backward.
        shared_heads: as in KernelConfig.
        transform_each: apply `transform` to each layer's function anew, for a compiler that keeps
            something of each layer between steps.
    """

    def __init__(
        self,
        decoder: Decoder,
        transform: Transform | None = None,
        checkpointing: bool = False,
        shared_heads: bool = True,
        transform_each: bool = False,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        config = decoder.config
        kernels = replace(TRAINING_KERNELS, shared_heads=shared_heads)
        # Compiled alone, a function is one for all layers only if they are called alike: then the
        # first one's update has to need a gradient as the others' do.
        self.layers_are_compiled = transform is not None
        transform = transform or (lambda function: function)
        self.embed = transform(embed)
        functions = {
            layer: make_layer(layer, config.norm_eps, kernels) for layer in config.layer_kinds
        }
        if not transform_each:
            functions = {layer: transform(function) for layer, function in functions.items()}
        layers = [functions[layer] for layer in config.layers]
        self.layer_functions = (
            [transform(function) for function in layers] if transform_each else layers
        )
        self.loss = transform(make_loss(config.norm_eps))
        self.checkpointing = checkpointing

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """tokens, targets [batch, length], int64 -> the loss, a scalar in fp32."""
        decoder = self.decoder
        length = tokens.shape[1]
        cos, sin = decoder.rope_cos[:length], decoder.rope_sin[:length]
        residual = self.embed(tokens, decoder.embed_tokens.weight)
        update = torch.zeros_like(residual)
        if self.layers_are_compiled:
            update.requires_grad_()
        for layer, function in zip(decoder.layers, self.layer_functions, strict=True):
            update, residual = self._layer(
                function, update, residual, cos, sin, None, None, layer.weights(), ()
            )
        return self.loss(update, residual, decoder.norm.weight, decoder.lm_head.weight, targets)

    def _layer(self, function: Callable, *arguments) -> tuple[Tensor, Tensor]:
        if not self.checkpointing:
            return function(*arguments)
        return checkpoint(function, *arguments, use_reentrant=False)


def embed(tokens: Tensor, embedding: Tensor) -> Tensor:
    return F.embedding(tokens, embedding)


@lru_cache
def make_loss(norm_eps: float) -> Callable[..., Tensor]:
    def loss(update, residual, norm_weight, head_weight, targets):
        hidden = rms_norm(residual + update, norm_weight, norm_eps)
        logits = F.linear(hidden, head_weight)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets.reshape(-1))

    return loss
