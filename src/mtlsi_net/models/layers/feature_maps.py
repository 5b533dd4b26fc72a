"""Kernel feature maps phi of linear attention: queries and keys (B, T, C, h, w) to values that are never negative.

Which one the paper uses is not known; relu as default is our choice.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

FOCUS = 3
"""Power of the focused map, as in its paper."""
TINY = 1e-20

FeatureMap = Callable[[Tensor, int], Tensor]


def relu(x: Tensor, heads: int) -> Tensor:  # noqa: ARG001 - one signature for all maps
    """Return max(x, 0)."""
    return F.relu(x)


def elu1(x: Tensor, heads: int) -> Tensor:  # noqa: ARG001
    """Return elu(x) + 1, always positive (Katharopoulos et al., 2020); written so that it stays so in half precision."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def focused(x: Tensor, heads: int) -> Tensor:
    """Return relu(x)**3 per head, scaled back to the length of relu(x): sharper directions (Han et al., FLatten, 2023).

    Computed in float32 at least: third powers leave the range of half precision.
    """
    positive = torch.unflatten(F.relu(x), 2, (heads, -1)).to(torch.promote_types(x.dtype, torch.float32))
    sharp = positive**FOCUS
    length, sharp_length = (torch.linalg.vector_norm(y, dim=3, keepdim=True) for y in (positive, sharp))
    return (sharp * (length / sharp_length.clamp(min=TINY))).reshape(x.shape).to(x.dtype)


FEATURE_MAPS: dict[str, FeatureMap] = {"relu": relu, "elu1": elu1, "focused": focused}
