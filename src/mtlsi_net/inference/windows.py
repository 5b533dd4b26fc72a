"""Windows at full resolution, each fitted to the view of the whole image, and their average."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.types import TargetSpec
from mtlsi_net.inference.scale import Scale, window_size
from mtlsi_net.inference.views import Maps, Viewing, average, region_of, resized, value_of

if TYPE_CHECKING:
    from mtlsi_net.inference.model import Model

REACH = 1 / 48
"""Radius of the mean filter, twice applied, above which values come from the whole view: a share of a window's shorter side."""
LEAST = 1e-2
"""Smallest depth whose logarithm is taken, in metres."""


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """Return where windows of ``side`` begin so that they cover ``length``, at even distances."""
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / max(1, side * (1 - overlap))))
    return [int(start) for start in np.linspace(0, length - side, count).round()]


def sliding(model: "Model", image: NDArray[np.uint8], overview: Maps, viewing: Viewing, scale: Scale) -> Maps:
    """Return values at full size; memory holds one band of a window's height, and the results.

    Args:
        model: the network.
        image: (H, W, 3).
        overview: raw outputs (K, h, w) of the whole image at ``scale``.
        viewing: how windows are placed and seen; their weights decrease linearly towards their edges (our choice).
        scale: of the overview.
    """
    size = image.shape[0], image.shape[1]
    height, width = window_size(model, size)
    radius = max(1, round(REACH * min(height, width) * model.scale))
    tops, lefts = (window_starts(n, s, viewing.overlap) for n, s in zip(size, (height, width), strict=True))
    weight = _fading(height)[:, None] * _fading(width)
    band: Maps = {}
    total = torch.zeros(height, size[1])
    done: dict[str, list[Tensor]] = {name: [] for name in model.tasks}
    for top, following in zip(tops, [*tops[1:], size[0]], strict=True):
        rows = slice(top, top + height)
        for first in range(0, len(lefts), viewing.batch_size):
            places = [slice(left, left + width) for left in lefts[first : first + viewing.batch_size]]
            raw = average(model, [resized(image[rows, columns], model.scale) for columns in places], viewing)
            for name, outputs in raw.items():
                if name not in band:
                    band[name] = outputs.new_zeros(outputs.shape[1], height, size[1])
                for columns, y in zip(places, outputs, strict=True):
                    fine = region_of(y, (height, width), slice(0, height), slice(0, width))
                    coarse = region_of(overview[name], size, rows, columns)
                    fine = fit_window(fine, coarse, model.tasks[name].target, scale.factor, radius)
                    band[name][:, :, columns] += fine * weight.to(y.device)
            for columns in places:
                total[:, columns] += weight
        finished = following - top
        for name, sums in band.items():
            done[name].append(value_of(model.tasks[name], sums[:, :finished] / total[:finished].to(sums.device)))
            band[name] = F.pad(sums[:, finished:], (0, 0, 0, finished))
        total = F.pad(total[finished:], (0, 0, 0, finished))
    return {name: torch.cat(parts, 1) for name, parts in done.items()}


def fit_window(fine: Tensor, coarse: Tensor, spec: TargetSpec, factor: float, radius: int) -> Tensor:
    """Return raw outputs (K, h, w) with the fine structure of a window and the broad course of the whole view.

    A window lacks the overview: it knows neither the distance (it is as if the camera were nearer), nor the direction of the
    optical axis, and mistakes a part for another object. So its difference to the whole view, averaged over neighbouring
    pixels of that view, is taken out; of depth the difference of logarithms, which is a local scale.

    Args:
        fine: raw outputs of the window.
        coarse: those of the whole view, enlarged to the window's pixels.
        spec: of the task.
        factor: pixels of the whole view in one pixel of the window.
        radius: of the mean filter, in pixels of the whole view.
    """
    if spec.zoom_divides:
        fine, coarse = fine.clamp(min=LEAST).log(), coarse.clamp(min=LEAST).log()
    grid = [max(1, round(side * factor)) for side in fine.shape[1:]]
    off = F.interpolate((coarse - fine)[None], grid, mode="area")
    for _ in range(2):
        off = F.avg_pool2d(off, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
    fitted = fine + F.interpolate(off, fine.shape[1:], mode="bilinear", align_corners=False)[0]
    return fitted.exp() if spec.zoom_divides else fitted


def _fading(side: int) -> Tensor:
    at = torch.arange(side)
    return torch.minimum(at, side - 1 - at) + 1.0
