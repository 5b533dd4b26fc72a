"""Drawing of label maps and predictions, with legends; invalid pixels have the same colour in all tasks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.types import IGNORE, ignore_of

Picture = NDArray[np.uint8]

INVALID_COLOR = (224, 224, 192)
"""VOC's colour of void: in no palette, colour map or grey scale used here, as black and mid-grey are."""


def _planes(value: Tensor) -> NDArray[np.float64]:
    return value.detach().cpu().double().numpy()


def _levels(planes: NDArray[np.float64]) -> Picture:
    """Return planes of 0 to 255 as bytes, anything where they are not finite."""
    with np.errstate(invalid="ignore"):
        return planes.round().clip(0, 255).astype(np.uint8)


def _marked(picture: Picture, unknown: NDArray[np.bool_]) -> Picture:
    """Return a picture whose unknown pixels, invalid or not finite, have the colour of invalid ones."""
    if unknown.any():
        picture[unknown] = INVALID_COLOR
    return picture


def color_classes(value: Tensor, palette: NDArray[np.uint8]) -> Picture:
    """Draw (1, H, W) classes 0..K-1, ``ignore_of(K)`` invalid, with a (K, 3) palette."""
    classes = value.detach().cpu().long().numpy()[0]
    colors = np.concatenate([palette, np.array([INVALID_COLOR])]).astype(np.uint8)
    return colors[np.where(classes == ignore_of(len(palette)), len(palette), classes)]


@cache
def _viridis() -> Picture:
    """Return viridis, (256, 3)."""
    return _levels(matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255)


def color_scalars(value: Tensor, low: float, high: float) -> Picture:
    """Draw (1, H, W) values, 255 invalid, in viridis from ``low`` (dark) to ``high`` (bright); others are clipped."""
    plane = _planes(value)[0]
    unknown = (plane == IGNORE) | np.isnan(plane)
    share = (np.where(unknown, low, plane).clip(low, high) - low) / (high - low)
    return _marked(_viridis()[np.minimum(share * 256, 255).astype(np.intp)], unknown)


def color_vectors(value: Tensor) -> Picture:
    """Draw (3, H, W) unit vectors, 255 invalid: x, y, z from -1 to 1 are red, green, blue from 0 to 255."""
    planes = _planes(value)
    x, y, z = (plane == IGNORE for plane in planes)
    unknown = x | y | z | ~np.isfinite(planes.sum(axis=0))
    return _marked(np.ascontiguousarray(_levels((planes + 1) * 127.5).transpose(1, 2, 0)), unknown)


def color_shares(value: Tensor, high: float = 1.0) -> Picture:
    """Draw (1, H, W) values in [0, 1], 255 invalid, from black at 0 to white at ``high`` and above."""
    plane = _planes(value)[0]
    unknown = (plane == IGNORE) | ~np.isfinite(plane)
    return _marked(np.repeat(_levels(plane * (255 / high))[..., None], 3, axis=2), unknown)


def round_up(value: float) -> float:
    """Return a positive value rounded up to two digits, for the end of a scale; float32's own rounding does not count."""
    digits = 1 - math.floor(math.log10(value))
    return math.ceil(round(value * 10**digits, 4)) / 10**digits


# -- legends ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Legend:
    """Legend of a picture: named colours, or a scale.

    Attributes:
        entries: names and RGB, the most important first.
        bar: RGB from low to high, (N, 3); None without a scale.
        low: label of the first colour.
        high: label of the last one.
    """

    entries: tuple[tuple[str, tuple[int, ...]], ...] = ()
    bar: Picture | None = None
    low: str = ""
    high: str = ""


def class_legend(value: Tensor, names: Sequence[str], palette: NDArray[np.uint8]) -> Legend:
    """Return the classes of a map (1, H, W), the largest first."""
    counts = torch.bincount(value.flatten().long().cpu(), minlength=len(names))[: len(names)]
    order = [k for k in counts.argsort(descending=True, stable=True).tolist() if counts[k]]
    return Legend(tuple((names[k], tuple(int(c) for c in palette[k])) for k in order))


def scalar_legend(low: float, high: float, unit: str) -> Legend:
    """Return the scale of ``color_scalars``."""
    bar = color_scalars(torch.linspace(low, high, 256)[None, None], low, high)[0]
    return Legend(bar=bar, low=f"{low:g} {unit}".strip(), high=f"{high:g} {unit}".strip())


def share_legend(what: str, high: float = 1.0) -> Legend:
    """Return the scale of ``color_shares``; ``what`` names the quantity."""
    return Legend(bar=color_shares(torch.linspace(0, 1, 256)[None, None])[0], low="0", high=f"{high:g} {what}")


def vector_legend() -> Legend:
    """Return the colours of the directions of the three axes and of their opposites."""
    axes = [
        (f"{sign}{axis}", plane, one) for plane, axis in enumerate("xyz") for sign, one in (("+", 1.0), ("-", -1.0))
    ]
    entries = []
    for name, plane, one in axes:
        vector = torch.zeros(3, 1, 1)
        vector[plane] = one
        entries.append((name, tuple(int(c) for c in color_vectors(vector)[0, 0])))
    return Legend(tuple(entries))
