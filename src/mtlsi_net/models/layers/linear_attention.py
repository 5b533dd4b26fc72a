"""Linear attention over positions, for several tasks at once: sums of keys and values, and what reads them."""

import torch
from torch import Tensor

from mtlsi_net.models.layers.masking import align

EPS = 1.0e-6


def position_weights(keys_BGChw: Tensor, valid: Tensor | None) -> Tensor | float:
    """Return each position's share of the mean over valid positions: 1/N, or 0 where padded."""
    height, width = keys_BGChw.shape[-2:]
    if valid is None:
        return 1 / (height * width)
    real = align(valid, keys_BGChw)
    count = real.sum(dim=(-2, -1), keepdim=True).clamp(min=1)  # an image of padding alone has no context, not NaN
    dtype = torch.promote_types(keys_BGChw.dtype, torch.float32)
    return (real.to(dtype) / count).to(keys_BGChw.dtype)


def split_heads(x_BTChw: Tensor, heads: int) -> Tensor:
    """Map (B, T, C, h, w) to (B, T, heads, d, N)."""
    return torch.unflatten(x_BTChw.flatten(3), 2, (heads, -1))


def contexts_of_sources(k: Tensor, v: Tensor, weight: Tensor | float, heads: int) -> tuple[Tensor, Tensor]:
    """Return each source's G = mean of phi(k) v^T, (B, G, heads, d, d), and z = mean of phi(k), (B, G, heads, d).

    The mean runs over valid positions; its factor goes into the keys before the product, so that no sum of N products
    has to fit into the number format.

    Args:
        k: (B, G, C, h, w), phi already applied, never negative; G sources, usually the tasks.
        v: (B, G, C, h, w).
        weight: ``position_weights``.
        heads: C / d.
    """
    keys, values = split_heads(k * weight, heads), split_heads(v, heads)
    total = keys.sum(dim=-1, dtype=torch.promote_types(k.dtype, torch.float32))
    return keys @ values.mT, total


def normalised_query(q: Tensor, total: Tensor) -> Tensor:
    """Return q / (q . z + eps) per head, in the shape of ``q`` (B, T, C, h, w); the division is in float32.

    Args:
        q: phi already applied.
        total: z, (B, T or 1, heads, d).
    """
    heads = split_heads(q, total.shape[2])
    norm = total[:, :, :, None].to(q.dtype) @ heads
    inverse = (norm.to(total.dtype) + EPS).reciprocal()
    return (heads * inverse.to(q.dtype)).reshape(q.shape)
