"""Operations that respect padding, given by a boolean map that is True on real image positions.

``valid`` is None where every position is real; then each function here is the plain operation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.models.layers.resizing import resize_bilinear


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (..., H, W) at the bottom and right with zeros (False) until both sides divide by ``multiple``."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def zero_invalid(x: Tensor, valid: Tensor | None) -> Tensor:
    """Zero the padded positions, as the border of an unpadded image would be, before a spatial convolution.

    Args:
        x: (B, C, h, w) or (B, T, C, h, w).
        valid: (B, 1, h, w) bool, or None.
    """
    if valid is None:
        return x
    return x * align(valid, x).to(x.dtype)


def align(valid: Tensor, x: Tensor) -> Tensor:
    """Return ``valid`` (B, 1, h, w) with axes inserted so that it broadcasts to (B, ..., h, w) of ``x``."""
    return valid.reshape(valid.shape[0], *(1,) * (x.ndim - 3), *valid.shape[-2:])


def resize_valid(valid: Tensor, size: Sequence[int]) -> Tensor:
    """Return (B, 1, *size): a cell is valid if it touches any valid cell of the (B, 1, h, w) map."""
    return F.adaptive_max_pool2d(valid.float(), (size[0], size[1])) > 0


def valid_at(valid: Tensor | None, x: Tensor) -> Tensor | None:
    """Return the (B, 1, H, W) map on the grid of ``x`` (B, ..., h, w); None stays None."""
    return None if valid is None else resize_valid(valid, x.shape[-2:])


def masked_pool(x: Tensor, cell: int, valid: Tensor | None) -> Tensor:
    """Return means over cells of ``cell`` x ``cell`` positions, over valid positions only; 0 in a cell without any.

    Args:
        x: (B, C, h, w) or (B, T, C, h, w); ``cell`` divides h and w.
        cell: side of a cell.
        valid: (B, 1, h, w) bool, or None.
    """
    flat = x.flatten(1, -3)
    if valid is None:
        pooled = F.avg_pool2d(flat, cell)
    else:
        weight = valid.to(x.dtype)
        share = F.avg_pool2d(weight, cell).clamp(min=torch.finfo(x.dtype).eps)
        pooled = F.avg_pool2d(flat * weight, cell) / share
    return torch.unflatten(pooled, 1, x.shape[1:-2])


def masked_mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean over valid positions, (B, ..., C), of (B, ..., C, h, w); 0 for an image of only padding."""
    if valid is None:
        return x.mean((-2, -1))
    real = align(valid, x).to(x.dtype)
    return (x * real).sum((-2, -1)) / real.sum((-2, -1)).clamp(min=1)


def valid_coordinates(valid: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return where the centres of rows (B or 1, h) and columns (B or 1, w) lie between 0 and 1, the valid part's edges.

    Args:
        valid: (B, 1, h, w) bool, a rectangle of True per image, anywhere; or None.
        size: (h, w).
    """
    if valid is None:
        rows, columns = ((torch.arange(n) + 0.5)[None] / n for n in size)
        return rows, columns
    coordinates = []
    for across in (3, 2):
        real = valid.any(across)[:, 0]
        at = torch.arange(real.shape[1], device=valid.device).expand_as(real)
        first = at.masked_fill(~real, real.shape[1]).amin(1, keepdim=True)
        last = at.masked_fill(~real, -1).amax(1, keepdim=True)
        coordinates.append((at - first + 0.5) / (last - first + 1).clamp(min=1))
    return coordinates[0], coordinates[1]


def masked_resize(x: Tensor, size: tuple[int, int], valid: Tensor | None) -> Tensor:
    """Resize bilinearly (align_corners False), using valid positions only.

    At the edge of a rectangular valid region this equals the clamping of a plain resize at an image's border, so
    that padding changes nothing. Positions out of reach of any valid one become 0.

    Args:
        x: (B, C, h, w) or (B, T, C, h, w).
        size: new (h, w).
        valid: (B, 1, H, W) bool on any grid, or None.
    """
    flat = x.flatten(1, -3)
    if valid is None:
        resized = resize_bilinear(flat, size)
    else:
        weight = resize_valid(valid, (x.shape[-2], x.shape[-1])).to(x.dtype)
        near = resize_bilinear(weight, size)
        resized = resize_bilinear(flat * weight, size)
        resized = resized.div_(near.clamp_(min=torch.finfo(x.dtype).eps))  # in place: full-size maps are large
    return torch.unflatten(resized, 1, x.shape[1:-2])
