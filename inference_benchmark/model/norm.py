"""RMS norms: a vector divided by its root mean square, times learned weights where there are any."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., n] and weight [n], in the dtype of x."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def divide_by_rms(x: Tensor, eps: float) -> Tensor:
    """The same without weights, computed in fp32."""
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt((wide * wide).mean(dim=-1, keepdim=True) + eps)).to(x.dtype)
