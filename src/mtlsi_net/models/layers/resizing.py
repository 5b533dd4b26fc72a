"""Bilinear resizing that is fast in training on CPUs."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_bilinear(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return ``F.interpolate(x, size, mode="bilinear", align_corners=False)``.

    Where a gradient is wanted on a CPU, rows and columns are multiplied by matrices of weights instead: the same up to rounding,
    and the backward pass takes a tenth to a third of the time.

    Args:
        x: (B, C, h, w), floating point.
        size: new (h, w).

    Example:
        >>> x = torch.rand(1, 2, 3, 4, requires_grad=True)
        >>> tuple(resize_bilinear(x, (6, 8)).shape)
        (1, 2, 6, 8)
    """
    multiply = x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu"
    if not multiply or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return F.interpolate(x, (size[0], size[1]), mode="bilinear", align_corners=False)
    rows, columns = (_weights(old, new, x.dtype) for old, new in zip(x.shape[-2:], size, strict=True))
    return rows @ (x @ columns.T)


def enlarge(x: Tensor, size: Sequence[int], strides: Sequence[int] = ()) -> Tensor:
    """Return a map (B, C, h, w) that covers an image from its top left, resized to the image's (H, W).

    The last cells may reach beyond the image, which the resized map does not show.

    Args:
        x: the map.
        size: (H, W).
        strides: that it may have, in pixels; if none fits, it covers the image and nothing else.
    """
    height, width = x.shape[-2:]
    for stride in strides:  # two fit only a map of one cell, for which they give the same
        if (height, width) == (-(-size[0] // stride), -(-size[1] // stride)):
            return top_left(resize_bilinear(x, (height * stride, width * stride)), size[0], size[1])
    return resize_bilinear(x, size)


def top_left(x: Tensor, height: int, width: int) -> Tensor:
    """Return the part (..., height, width) at the top left; the map itself if that is all of it."""
    if x.shape[-2:] == (height, width):  # the gradient of a slice is a copy, even of a whole map
        return x
    return x[..., :height, :width]


def _weights(old: int, new: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix (new, old) that interpolates ``old`` values linearly; not kept, as it may be a fake tensor."""
    return F.interpolate(torch.eye(old, dtype=dtype, device="cpu")[None], new, mode="linear", align_corners=False)[
        0
    ].T.contiguous()
