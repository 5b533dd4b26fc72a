"""Views of an image: raw outputs of a network, averaged over mirrored and enlarged copies of the image or a part of it.

Each task's TargetSpec tells how to reverse mirroring and enlarging in the outputs. Vectors are averaged as unit vectors. Depth
follows the usual rule for zooming: in a view enlarged by s, objects appear s times nearer.
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
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.decoding import image_values, padding
from mtlsi_net.data.transforms import IMAGE, PAD_COLOR, VALID, pad
from mtlsi_net.metrics.normals import unit_vectors
from mtlsi_net.tasks.base import Task, valid_window

if TYPE_CHECKING:
    from mtlsi_net.inference.model import Model

Maps = dict[str, Tensor]
"""Task -> raw outputs or values."""


@dataclass(frozen=True)
class Viewing:
    """Views of an image; a UserError for invalid values."""

    mode: str = "whole"  # or ``sliding``: in windows at full resolution too
    flip: bool = False  # add mirrored views
    scales: Sequence[float] = (1.0,)  # factors of the views, 0.1 to 10
    overlap: float = 0.25  # of neighbouring windows, as a share of their side, in [0, 0.9]
    batch_size: int = 1  # windows in one forward pass
    size: str | Sequence[int] | None = None  # scale of the whole view, see ``scale.view_scale``

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "sliding"):
            raise UserError(f"mode={self.mode} is not known; use whole or sliding")
        if self.size is not None and self.size != "original" and not _is_size(self.size):
            raise UserError(f"size={self.size} is not valid; use original, or [height, width] in pixels")
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise UserError(f"scales={list(self.scales)} is not valid; pass factors between 0.1 and 10")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"overlap={self.overlap} is outside [0, 0.9]; pass a share of the window's side")
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} is too small; pass at least 1")


def _is_size(size: Any) -> bool:  # noqa: ANN401 - whatever was given
    if isinstance(size, str) or not isinstance(size, Sequence):
        return False
    return len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)


def resized(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return an image (H, W, 3) at another scale; smaller ones as floats by area, as the data modules do."""
    if factor == 1.0:
        return image
    height, width = scaled_size(image.shape, factor)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image.astype(np.float32), (width, height), interpolation=how))


def scaled_size(size: Sequence[int], factor: float) -> tuple[int, int]:
    """Return the height and width of an image of ``size`` at another scale."""
    return max(1, int(size[0] * factor + 1e-6)), max(1, int(size[1] * factor + 1e-6))


def region_of(x: Tensor, size: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    """Return a rectangle of ``F.interpolate(x, size, mode="bilinear")`` of (K, h, w)."""
    if x.shape[-2:] == size:
        return x[:, rows, columns]
    x = _stretched(x, 1, size[0], rows)
    if columns == slice(0, size[1]):  # along the last axis, torch's own is several times faster
        return F.interpolate(x[None], (x.shape[1], size[1]), mode="bilinear", align_corners=False)[0]
    return _stretched(x, 2, size[1], columns)


def _stretched(x: Tensor, axis: int, full: int, wanted: slice) -> Tensor:
    """Return a part of what (K, h, w) becomes when ``axis`` is brought to length ``full``."""
    have = x.shape[axis]
    at = (torch.arange(wanted.start, wanted.stop, device=x.device) + 0.5) * (have / full) - 0.5
    at = at.clamp(min=0)
    low = at.long().clamp(max=have - 1)
    share = (at - low).clamp(0, 1).to(x.dtype).view(-1, *(1,) * (2 - axis))
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=have - 1)), share)


def value_of(task: Task, raw: Tensor) -> Tensor:
    """Return post-processed (C, h, w) of raw (K, h, w)."""
    value = task.postprocess(raw[None])[0]
    return value.to(class_type(task.target) if task.target.kind == "classes" else torch.float32).cpu()


def class_type(spec: TargetSpec) -> torch.dtype:
    """Return the type of predicted classes: bytes, or more where these do not hold them."""
    return torch.int32 if spec.wide else torch.uint8


def average(model: "Model", images: Sequence[NDArray[Any]], viewing: Viewing) -> Maps:
    """Return raw outputs (B, K, h, w) of images (h, w, 3) of one size, averaged over views."""
    size = images[0].shape[0], images[0].shape[1]
    views = list(product(viewing.scales, (False, True) if viewing.flip else (False,)))
    total: Maps = {}
    for scale, mirrored in views:
        seen = [resized(image, scale) for image in images]
        raw = _forward(model, [image[:, ::-1] for image in seen] if mirrored else seen)
        for name, y in raw.items():
            spec = model.tasks[name].target
            if spec.kind == "vector" and (len(views) > 1 or viewing.mode == "sliding"):
                y = unit_vectors(y)
            if mirrored:
                y = y.flip(-1) * torch.tensor(spec.flip_sign, device=y.device).view(-1, 1, 1)
            if spec.zoom_divides and scale != 1:
                y = y * scale
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
