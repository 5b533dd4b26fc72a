"""Test-time augmentation: outputs for an image of any size, averaged over several views, at its original size.

An image is processed whole, reduced if it is larger than the network's training size, or in overlapping windows at full
resolution. Every view may be mirrored and enlarged; each task's TargetSpec tells how to reverse this in the outputs. Raw
outputs are averaged (vectors as unit vectors), then post-processed. Depth follows the usual rule for zooming: in a view
enlarged by s, objects appear s times nearer. The whole image sets the scale, as if every picture had the angle of view of
the training images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.decoding import image_values, padding
from mtlsi_net.data.transforms import IMAGE, PAD_COLOR, VALID, pad
from mtlsi_net.metrics.normals import unit_vectors
from mtlsi_net.tasks.base import Task, valid_window

if TYPE_CHECKING:
    from mtlsi_net.inference.model import Model

BAND = 256
"""Rows of a large image that are enlarged to full size at once."""

Maps = dict[str, Tensor]
"""Task -> raw outputs or values."""


@dataclass(frozen=True)
class Viewing:
    """Views of an image; a UserError for invalid values."""

    mode: str = "whole"  # or ``sliding``: windows of the training size at full resolution
    flip: bool = False  # add mirrored views
    scales: Sequence[float] = (1.0,)  # factors of the views, 0.1 to 10
    overlap: float = 0.25  # of neighbouring windows, as a share of their side, in [0, 0.9]
    batch_size: int = 1  # windows in one forward pass

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "sliding"):
            raise UserError(f"mode={self.mode} is not known; use whole or sliding")
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise UserError(f"scales={list(self.scales)} is not valid; pass factors between 0.1 and 10")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"overlap={self.overlap} is outside [0, 0.9]; pass a share of the window's side")
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} is too small; pass at least 1")


def predict_tta(model: "Model", images: NDArray[np.uint8], viewing: Viewing) -> list[Maps]:
    """Predict with test-time augmentation for images (B, H, W, 3), 0 to 255.

    Values (C, H, W) are as ``Task.postprocess`` gives them, on the CPU; classes as bytes, all else float32.
    """
    if viewing.mode == "whole":
        return _whole(model, images, viewing)
    return [_sliding(model, image, viewing) for image in images]


def base_scale(model: "Model", size: Sequence[int]) -> float:
    """Return the scale for an image of (H, W): that of the training images, smaller if the image is larger."""
    fitting = min(have / side for have, side in zip(model.size, size, strict=True))
    return min(model.scale, fitting)


def _whole(model: "Model", images: NDArray[np.uint8], viewing: Viewing) -> list[Maps]:
    """Return values at full size; raw outputs are enlarged one band of rows at a time, to save memory."""
    size = images.shape[1], images.shape[2]
    raw = _average(model, [_resized(image, base_scale(model, size)) for image in images], viewing, zoom=1.0)
    bands = [slice(top, min(top + BAND, size[0])) for top in range(0, size[0], BAND)]
    return [
        {
            name: torch.cat([_value(model.tasks[name], _rows_of(y[index], size, rows)) for rows in bands], 1)
            for name, y in raw.items()
        }
        for index in range(len(images))
    ]


def _resized(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return an image (H, W, 3) at another scale; smaller ones as floats by area, as the data modules do."""
    if factor == 1.0:
        return image
    height, width = (max(1, int(side * factor + 1e-6)) for side in image.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(image.astype(np.float32), (width, height), interpolation=how)
    return resized


def _rows_of(x: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    """Return some rows of ``F.interpolate(x, size, mode="bilinear")`` of (K, h, w)."""
    if x.shape[-2:] == size:
        return x[:, rows]
    for axis, full, wanted in ((1, size[0], rows), (2, size[1], slice(0, size[1]))):
        have = x.shape[axis]
        at = (torch.arange(wanted.start, wanted.stop, device=x.device) + 0.5) * (have / full) - 0.5
        at = at.clamp(min=0)
        low = at.long().clamp(max=have - 1)
        share = (at - low).clamp(0, 1).to(x.dtype).view(-1, *(1,) * (2 - axis))
        x = torch.lerp(x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=have - 1)), share)
    return x


def _value(task: Task, raw: Tensor) -> Tensor:
    """Return post-processed (C, h, w) of raw (K, h, w)."""
    value = task.postprocess(raw[None])[0]
    return value.to(torch.uint8 if task.target.kind == "classes" else torch.float32).cpu()


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """Return where windows of ``side`` begin so that they cover ``length``, at even distances."""
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / max(1, side * (1 - overlap))))
    return [int(start) for start in np.linspace(0, length - side, count).round()]


def _sliding(model: "Model", image: NDArray[np.uint8], viewing: Viewing) -> Maps:
    """Return values at full size; memory holds one band of a window's height, and the results.

    Window weights decrease linearly towards the edges to avoid visible seams (our choice).
    """
    size = image.shape[0], image.shape[1]
    zoom = model.scale / base_scale(model, size)
    height, width = (min(int(side / model.scale), have) for side, have in zip(model.size, size, strict=True))
    tops, lefts = (window_starts(n, s, viewing.overlap) for n, s in zip(size, (height, width), strict=True))
    weight = _fading(height)[:, None] * _fading(width)
    band: Maps = {}
    total = torch.zeros(height, size[1])
    done: dict[str, list[Tensor]] = {name: [] for name in model.tasks}
    for top, following in zip(tops, [*tops[1:], size[0]], strict=True):
        for first in range(0, len(lefts), viewing.batch_size):
            chosen = lefts[first : first + viewing.batch_size]
            windows = [image[top : top + height, left : left + width] for left in chosen]
            raw = _average(model, [_resized(window, model.scale) for window in windows], viewing, zoom)
            for name, outputs in raw.items():
                if name not in band:
                    band[name] = outputs.new_zeros(outputs.shape[1], height, size[1])
                for left, y in zip(chosen, outputs, strict=True):
                    y = _rows_of(y, (height, width), slice(0, height))
                    band[name][:, :, left : left + width] += y * weight.to(y.device)
            for left in chosen:
                total[:, left : left + width] += weight
        finished = following - top
        for name, sums in band.items():
            done[name].append(_value(model.tasks[name], sums[:, :finished] / total[:finished].to(sums.device)))
            band[name] = F.pad(sums[:, finished:], (0, 0, 0, finished))
        total = F.pad(total[finished:], (0, 0, 0, finished))
    return {name: torch.cat(parts, 1) for name, parts in done.items()}


def _fading(side: int) -> Tensor:
    at = torch.arange(side)
    return torch.minimum(at, side - 1 - at) + 1.0


def _average(model: "Model", images: Sequence[NDArray[Any]], viewing: Viewing, zoom: float) -> Maps:
    """Return raw outputs (B, K, h, w) of images (h, w, 3) of one size, averaged over views.

    ``zoom`` is the scale of the images relative to whole-image mode.
    """
    size = images[0].shape[0], images[0].shape[1]
    views = list(product(viewing.scales, (False, True) if viewing.flip else (False,)))
    total: Maps = {}
    for scale, mirrored in views:
        resized = [_resized(image, scale) for image in images]
        raw = _forward(model, [image[:, ::-1] for image in resized] if mirrored else resized)
        for name, y in raw.items():
            spec = model.tasks[name].target
            if spec.kind == "vector" and (len(views) > 1 or viewing.mode == "sliding"):
                y = unit_vectors(y)
            if mirrored:
                y = y.flip(-1) * torch.tensor(spec.flip_sign, device=y.device).view(-1, 1, 1)
            if spec.zoom_divides and scale * zoom != 1:
                y = y * (scale * zoom)
            if y.shape[-2:] != size:
                y = F.interpolate(y, size, mode="bilinear", align_corners=False)
            total[name] = total[name] + y if name in total else y
    return {name: y / len(views) for name, y in total.items()}


def _forward(model: "Model", images: Sequence[NDArray[Any]]) -> Maps:
    """Return raw outputs of images (h, w, 3), 0 to 255, padded as in evaluation and cropped again."""
    samples = [pad({IMAGE: np.ascontiguousarray(x)}, model.size, {}, model.pad_color) for x in images]
    keys = (IMAGE, VALID, PAD_COLOR)
    image, valid, around = (torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in keys)
    window = valid_window(valid[0, 0])
    raw = model.raw(image_values(image, padding(valid), around), valid)
    return {name: y[..., window[0], window[1]] for name, y in raw.items()}
