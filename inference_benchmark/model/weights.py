"""Weights: random ones built directly on the device, and copies from a checkpoint's tensors.

Random weights are scaled so that activations keep unit variance through the depth: a linear layer
has standard deviation 1 / sqrt(fan_in), one that writes into the residual stream is smaller by
sqrt(2 * num_layers), norms scatter around one (so that a swapped or a missing norm shows). A
router's rows are random directions, so its experts are about equally likely for any token.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from inference_benchmark.model.checkpoint_names import Target, targets
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.feed_forward import ExpertBias, Experts
from inference_benchmark.models import ModelConfig
from inference_benchmark.parallel.sharding import Cut, Shard

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_RESIDUAL_WRITERS = ("o_proj", "down_proj", "expert_down_proj", "shared_down_proj")
_EXPERT_BIAS_STD = 0.01  # enough to show where it is missing, too little to unbalance the experts


def build_decoder(
    config: ModelConfig,
    precision: str,
    device: torch.device | str,
    context_length: int,
    seed: int = 0,
    shard: Shard | None = None,
) -> Decoder:
    """A decoder with random weights, each made in place on the device, so never held twice.

    The shares of several ranks are cut from the very weights that one rank would have.
    """
    decoder = empty_decoder(config, precision, device, shard)
    initialize(decoder, seed)
    decoder.set_context_length(context_length)
    return decoder


def empty_decoder(
    config: ModelConfig,
    precision: str,
    device: torch.device | str,
    shard: Shard | None = None,
) -> Decoder:
    """A decoder whose weights hold whatever the memory held: to be filled at once."""
    with torch.device("meta"):
        decoder = Decoder(config, shard)
    decoder = decoder.to(DTYPES[precision])
    for module in decoder.modules():
        if getattr(module, "keeps_fp32", False):
            module.float()
    decoder = decoder.to_empty(device=device)
    decoder.tie_head()  # to_empty gives each name its own memory
    return decoder.requires_grad_(False).eval()


@torch.no_grad()
def initialize(decoder: Decoder, seed: int) -> None:
    """Fill every parameter from one seeded generator on the parameters' device."""
    config = decoder.config
    generator = torch.Generator(decoder.norm.weight.device).manual_seed(seed)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.RMSNorm):
            module.weight.normal_(1.0, 0.1, generator=generator)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, 1.0, generator=generator)
        elif isinstance(module, ExpertBias):
            module.weight.normal_(0.0, _EXPERT_BIAS_STD, generator=generator)
        elif isinstance(module, nn.Linear | Experts) and not _is_tied_head(name, config):
            _draw(name, module.weight, config, decoder.cuts.get(name), generator)
    if config.tied_embeddings:  # rows of unit variance would give logits of variance hidden_size
        decoder.norm.weight.mul_(1 / math.sqrt(config.hidden_size))


def _is_tied_head(name: str, config: ModelConfig) -> bool:
    return config.tied_embeddings and name == "lm_head"


def _draw(
    name: str, weight: Tensor, config: ModelConfig, cut: Cut | None, generator: torch.Generator
) -> None:
    """Random values; of a share the whole weight is drawn, and exists while it is cut."""
    if cut is None:
        std = _linear_std(name, weight.shape[-1], config)
        weight.normal_(0.0, std, generator=generator)
        return
    whole = weight.new_empty(cut.whole_shape(weight.shape))
    whole.normal_(0.0, _linear_std(name, whole.shape[-1], config), generator=generator)
    cut.keep(whole, weight)


def _linear_std(name: str, fan_in: int, config: ModelConfig) -> float:
    std = 1 / math.sqrt(fan_in)
    if name.rsplit(".", 1)[-1] in _RESIDUAL_WRITERS:
        std /= math.sqrt(2 * config.num_layers)
    return std


@torch.no_grad()
def load_hugging_face(decoder: Decoder, state: Mapping[str, Tensor]) -> None:
    """Copy a Hugging Face state dict into the decoder.

    Raises:
        KeyError: a tensor is missing; the message names it.
        ValueError: a tensor has another shape; the message names it.
    """
    for name, target in targets(decoder, state).items():
        copy_tensor(name, state[name], target)


def copy_tensor(name: str, value: Tensor, target: Target) -> None:
    """Copy a checkpoint's tensor to where it belongs.

    Raises:
        ValueError: it has another shape; the message names it.
    """
    check_shape(name, tuple(value.shape), target)
    target.fill(value)


def check_shape(name: str, found: tuple[int, ...], target: Target) -> None:
    if found != target.shape:
        raise ValueError(f"{name}: shape {found} in the checkpoint, {target.shape} expected")
