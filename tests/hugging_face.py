"""Weights of a model that transformers built, in a decoder of ours."""

from collections.abc import Mapping

import torch
from torch import Tensor

from inference_benchmark.model.checkpoint_names import targets
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.weights import empty_decoder


def copied(config: ModelConfig, state: Mapping[str, Tensor], context_length: int) -> Decoder:
    """A decoder on the CPU in fp32 with the weights of a state dict."""
    decoder = empty_decoder(config, "fp32", "cpu")
    with torch.no_grad():
        for name, target in targets(decoder, state).items():
            assert tuple(state[name].shape) == target.shape, name
            target.fill(state[name])
    decoder.set_context_length(context_length)
    return decoder
