"""Weights: random ones built directly on the device, and copies from a checkpoint's tensors.

Random weights are scaled so that activations keep unit variance through the depth: a linear layer
has standard deviation 1 / sqrt(fan_in), one that writes into the residual stream is smaller by
sqrt(2 * num_layers), norms scatter around one (so that a swapped or a missing norm shows). A
router's rows are random directions, so its experts are about equally likely for any token.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.feed_forward.mixture import ExpertBias, Experts
from inference_benchmark.model.linear import QuantizedLinear
from inference_benchmark.model.stored_modules import modules_to_store
from inference_benchmark.parallel.sharding import Shard, WeightShard

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Modules that write into the residual stream, of experts too.
_RESIDUAL_WRITERS = ("o_proj", "down_proj")
_EXPERT_BIAS_STD = 0.01  # enough to show where it is missing, too little to unbalance the experts


def build_decoder(
    config: ModelConfig,
    precision: str,
    device: torch.device | str,
    context_length: int,
    seed: int = 0,
    shard: Shard | None = None,
) -> Decoder:
    """A decoder with random weights, made in place on the device, so that no copy exists meanwhile.

    precision: a base type (bf16, fp16, fp32) or a weight format of model/weight_format.py.
    The shares of several ranks are copied from the very weights that one rank would have.

    Raises:
        CannotRun: the weight format can't hold this model's layers.
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
    is_lazy: bool = False,
) -> Decoder:
    """A decoder with uninitialised weights, for a caller that fills all of them.

    Matrices that a weight format of several tensors will store have no memory yet; with is_lazy
    those of no linear layer or expert within a layer have.
    """
    types = Precision.of(precision)
    weight_format = types.stored.weight_format
    if weight_format.module is not None and not config.is_plain:
        raise CannotRun(
            f"weight format {weight_format.name} is for dense models: experts or the attention of "
            f"{config.name} are no plain linear layers"
        )
    with torch.device("meta"):
        decoder = Decoder(config, shard, weight_format)
    decoder = decoder.to(DTYPES[types.base])
    later = set(_stored_later(decoder) if is_lazy else matrices_to_quantize(decoder).values())
    for module in decoder.modules():
        if getattr(module, "keeps_fp32", False):
            module.float()
        if module not in later:
            module.to_empty(device=device, recurse=False)
    decoder.tie_head()  # to_empty gives each name its own memory
    return decoder.requires_grad_(False).eval()


def base_type(decoder: Decoder) -> str:
    """bf16, fp16 or fp32: of everything that its weight format leaves as it is."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    return names[decoder.norm.weight.dtype]


def matrices_to_quantize(decoder: Decoder) -> dict[str, nn.Linear]:
    """The linear layers whose matrices are still to be stored in the weight format, by path."""
    if decoder.weight_format is None or decoder.weight_format.module is None:
        return {}
    return _linear_layers(decoder)


def _stored_later(decoder: Decoder) -> Iterator[nn.Module]:
    """What model/quantized.py stores in a format, and may then give up."""
    for layer in decoder.layers:
        yield from modules_to_store(layer).values()


def _linear_layers(decoder: Decoder) -> dict[str, nn.Linear]:
    return {
        f"layers.{path}": module
        for path, module in decoder.layers.named_modules()
        if isinstance(module, nn.Linear)
    }


@torch.no_grad()
def quantize(decoder: Decoder, path: str) -> None:
    """Store the linear layer at this path in the decoder's weight format."""
    parent, _, name = path.rpartition(".")
    linear = decoder.get_submodule(path)
    setattr(
        decoder.get_submodule(parent), name, QuantizedLinear(linear.weight, decoder.weight_format)
    )


@torch.no_grad()
def initialize(
    decoder: Decoder, seed: int, after_layer: Callable[[int], None] = lambda index: None
) -> None:
    """Fill every parameter from one seeded generator on the parameters' device.

    after_layer is told of each layer that is complete, in their order.
    """
    config = decoder.config
    generator = torch.Generator(decoder.norm.weight.device).manual_seed(seed)
    to_quantize = matrices_to_quantize(decoder)
    last_modules = {
        [name for name, _ in layer.named_modules(prefix=f"layers.{index}")][-1]: index
        for index, layer in enumerate(decoder.layers)
    }
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.RMSNorm):
            module.weight.normal_(1.0, 0.1, generator=generator)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, 1.0, generator=generator)
        elif isinstance(module, ExpertBias):
            module.weight.normal_(0.0, _EXPERT_BIAS_STD, generator=generator)
        elif isinstance(module, nn.Linear | Experts) and not _is_tied_head(name, config):
            if module.weight.is_meta:
                module.to_empty(device=decoder.norm.weight.device)
            _draw(name, module.weight, config, decoder.shards.get(name), generator)
            if name in to_quantize:
                quantize(decoder, name)
        if name in last_modules:
            after_layer(last_modules[name])
    if config.tied_embeddings:  # rows of unit variance would give logits of variance hidden_size
        decoder.norm.weight.mul_(1 / math.sqrt(config.hidden_size))


def _is_tied_head(name: str, config: ModelConfig) -> bool:
    return config.tied_embeddings and name == "lm_head"


def _draw(
    name: str,
    weight: Tensor,
    config: ModelConfig,
    shard: WeightShard | None,
    generator: torch.Generator,
) -> None:
    """Random values; for a shard the full weight is drawn, and exists until it has been copied."""
    if shard is None:
        std = _linear_std(name, weight.shape[-1], config)
        weight.normal_(0.0, std, generator=generator)
        return
    full = weight.new_empty(shard.full_shape(weight.shape))
    full.normal_(0.0, _linear_std(name, full.shape[-1], config), generator=generator)
    shard.copy_shard(full, weight)


def _linear_std(name: str, fan_in: int, config: ModelConfig) -> float:
    std = 1 / math.sqrt(fan_in)
    if name.endswith(_RESIDUAL_WRITERS):
        std /= math.sqrt(2 * config.num_layers)
    return std
