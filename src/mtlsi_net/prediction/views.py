"""From an image of any size to values at its own size: views of it through the network, and their average.

An image is seen whole, made smaller if it is larger than the network's training size, or through overlapping windows at
full resolution. Every view may be mirrored and enlarged; what comes back is undone by the task's TargetSpec. Raw outputs
are averaged (vectors as unit vectors), then post-processed. Depth follows the field's rule for zooming: in a view
enlarged by s things seem s times nearer. The whole image sets the scale, as if every picture were taken with the angle
of view of the training images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.data.decoding import image_values, padding
from mtlsi_net.data.transforms import IMAGE, PAD_COLOR, VALID, pad
from mtlsi_net.specs import TargetSpec
from mtlsi_net.tasks.base import Task, valid_window
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.vectors import unit_vectors

BAND = 256
"""Rows of a large image that are brought to full size at once."""

Raw = dict[str, Tensor]
Values = dict[str, Tensor]


class Forward(Protocol):
    """What views go through."""

    tasks: dict[str, Task]
    size: tuple[int, int]
    scale: float
    pad_color: tuple[float, ...]

    def raw(self, image: Tensor, valid: Tensor) -> Raw:
        """Return raw outputs (B, K, H, W), float32, of images (B, 3, H, W) in [0, 1]."""


@dataclass(frozen=True)
class Viewing:
    """How an image is looked at.

    Attributes:
        mode: ``whole``, or ``sliding``: windows of the training size at full resolution.
        flip: also mirrored.
        scales: factors of the views.
        overlap: of neighbouring windows, as a share of their side, in [0, 0.9].
        batch_size: windows that go through the network at once.

    Raises:
        UserError: values outside these ranges.
    """

    mode: str = "whole"
    flip: bool = False
    scales: Sequence[float] = (1.0,)
    overlap: float = 0.25
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "sliding"):
            raise UserError(f"mode={self.mode} is not known; use whole or sliding")
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise UserError(f"scales={list(self.scales)}: give factors between 0.1 and 10")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"overlap={self.overlap} is outside [0, 0.9]")
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size}; give at least 1")


def see(network: Forward, images: NDArray[np.uint8], viewing: Viewing) -> list[Values]:
    """Return, for each image of (B, H, W, 3), task -> value (C, H, W) as ``Task.postprocess`` gives it, on the CPU.

    Classes are bytes, all else float32.
    """
    if viewing.mode == "whole":
        return _whole(network, images, viewing)
    return [_sliding(network, image, viewing) for image in images]


# -- the whole image ------------------------------------------------------------------------------------------------


def base_scale(network: Forward, size: Sequence[int]) -> float:
    """Return the factor that brings an image of (H, W) to the network: the training images' own, less if it is larger."""
    fitting = min(have / side for have, side in zip(network.size, size, strict=True))
    return min(network.scale, fitting)


def _whole(network: Forward, images: NDArray[np.uint8], viewing: Viewing) -> list[Values]:
    size = images.shape[1], images.shape[2]
    small = [_resized(image, base_scale(network, size)) for image in images]
    raw = _average(network, small, viewing, zoom=1.0)
    return [_enlarged(network.tasks, {name: y[index] for name, y in raw.items()}, size) for index in range(len(images))]


def _resized(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return an image (H, W, 3) at another scale; smaller ones as floats by area, as the data modules do."""
    if factor == 1.0:
        return image
    height, width = (max(1, int(side * factor + 1e-6)) for side in image.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(image.astype(np.float32), (width, height), interpolation=how)
    return resized


def _enlarged(tasks: dict[str, Task], raw: Raw, size: tuple[int, int]) -> Values:
    """Return values at ``size`` of raw outputs (K, h, w); only a band of rows is ever there in full."""
    done: dict[str, list[Tensor]] = {name: [] for name in raw}
    for top in range(0, size[0], BAND):
        rows = slice(top, min(top + BAND, size[0]))
        for name, y in raw.items():
            done[name].append(_value(tasks[name], _rows_of(y, size, rows)))
    return {name: torch.cat(bands, 1) for name, bands in done.items()}


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


# -- windows --------------------------------------------------------------------------------------------------------


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """Return where windows of ``side`` begin so that they cover ``length``, at even distances."""
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / max(1, side * (1 - overlap))))
    return [int(start) for start in np.linspace(0, length - side, count).round()]


def _sliding(network: Forward, image: NDArray[np.uint8], viewing: Viewing) -> Values:
    """Return values at full size; memory holds a band of one window's height and the results.

    Windows fade out linearly towards their edges, so that no seam shows (our choice).
    """
    size = image.shape[0], image.shape[1]
    zoom = network.scale / base_scale(network, size)
    height, width = (min(int(side / network.scale), have) for side, have in zip(network.size, size, strict=True))
    tops, lefts = (window_starts(n, s, viewing.overlap) for n, s in zip(size, (height, width), strict=True))
    weight = _fading(height)[:, None] * _fading(width)
    band: Raw = {}
    total = torch.zeros(height, size[1])
    done: dict[str, list[Tensor]] = {name: [] for name in network.tasks}
    for top, following in zip(tops, [*tops[1:], size[0]], strict=True):
        for first in range(0, len(lefts), viewing.batch_size):
            chosen = lefts[first : first + viewing.batch_size]
            windows = [image[top : top + height, left : left + width] for left in chosen]
            raw = _average(network, [_resized(window, network.scale) for window in windows], viewing, zoom)
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
            done[name].append(_value(network.tasks[name], sums[:, :finished] / total[:finished].to(sums.device)))
            band[name] = _moved_up(sums, finished)
        total = _moved_up(total, finished)
    return {name: torch.cat(parts, 1) for name, parts in done.items()}


def _fading(side: int) -> Tensor:
    at = torch.arange(side)
    return torch.minimum(at, side - 1 - at) + 1.0


def _moved_up(x: Tensor, rows: int) -> Tensor:
    """Return (..., h, w) without its first ``rows``, zeros below."""
    return F.pad(x[..., rows:, :], (0, 0, 0, rows))


# -- views of one image ---------------------------------------------------------------------------------------------


def _average(network: Forward, images: Sequence[NDArray[Any]], viewing: Viewing, zoom: float) -> Raw:
    """Return raw outputs (B, K, h, w) of images (h, w, 3) of one size, averaged over views.

    ``zoom`` is how much larger the images are than when seen whole.
    """
    size = images[0].shape[0], images[0].shape[1]
    mirrors = (False, True) if viewing.flip else (False,)
    views = [(scale, mirrored) for scale in viewing.scales for mirrored in mirrors]
    total: Raw = {}
    for scale, mirrored in views:
        seen = [_resized(image, scale) for image in images]
        raw = _forward(network, [image[:, ::-1] for image in seen] if mirrored else seen)
        for name, y in raw.items():
            spec = network.tasks[name].target
            alone = len(views) == 1 and viewing.mode == "whole"
            y = _undone(y, spec, mirrored=mirrored, zoom=scale * zoom, alone=alone)
            if y.shape[-2:] != size:
                y = F.interpolate(y, size, mode="bilinear", align_corners=False)
            total[name] = total[name] + y if name in total else y
    return {name: y / len(views) for name, y in total.items()}


def _undone(y: Tensor, spec: TargetSpec, *, mirrored: bool, zoom: float, alone: bool) -> Tensor:
    """Return raw outputs of a view as those of the image."""
    if spec.kind == "vector" and not alone:
        y = unit_vectors(y)
    if mirrored:
        y = y.flip(-1) * torch.tensor(spec.flip_sign, device=y.device).view(-1, 1, 1)
    return y * zoom if spec.zoom_divides and zoom != 1 else y


def _forward(network: Forward, images: Sequence[NDArray[Any]]) -> Raw:
    """Return raw outputs of images (h, w, 3), 0 to 255, padded as in evaluation and cut again."""
    samples = [pad({IMAGE: np.ascontiguousarray(x)}, network.size, {}, network.pad_color) for x in images]
    keys = (IMAGE, VALID, PAD_COLOR)
    image, valid, around = (torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in keys)
    window = valid_window(valid[0, 0])
    return {
        name: y[..., window[0], window[1]]
        for name, y in network.raw(image_values(image, padding(valid), around), valid).items()
    }
