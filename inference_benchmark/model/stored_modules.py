"""Which modules of a layer a weight format stores, and as what."""

from torch import nn

from inference_benchmark.model.feed_forward.mixture import Experts, QuantizedExperts
from inference_benchmark.model.linear import QuantizedLinear
from inference_benchmark.model.weight_format import WeightFormat

_STORED_AS = {nn.Linear: QuantizedLinear, Experts: QuantizedExperts}


def modules_to_store(layer: nn.Module) -> dict[str, nn.Module]:
    """The linear layers and experts of a decoder's layer, by name. Routers, and what latent
    attention multiplies slice by slice, are other classes: they stay in the base type."""
    return {name: child for name, child in layer.named_children() if type(child) in _STORED_AS}


def stored(module: nn.Module, weight_format: WeightFormat) -> nn.Module:
    """One of them in the format; the module is left as it is."""
    return _STORED_AS[type(module)](module.weight, weight_format)
