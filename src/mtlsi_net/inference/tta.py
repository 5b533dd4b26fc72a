"""Prediction for images of any size: seen whole at the scale of evaluation, or in windows too, and post-processed."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from mtlsi_net.inference.scale import view_scale
from mtlsi_net.inference.views import Maps, Viewing, average, region_of, resized, value_of
from mtlsi_net.inference.windows import sliding

if TYPE_CHECKING:
    from mtlsi_net.inference.model import Model

BAND = 256
"""Rows of a large image that are enlarged to full size at once."""


def predict_tta(model: "Model", images: NDArray[np.uint8], viewing: Viewing) -> list[Maps]:
    """Predict with test-time augmentation for images (B, H, W, 3), 0 to 255.

    Values (C, H, W) are as ``Task.postprocess`` gives them, on the CPU; classes as whole numbers, all else float32.
    """
    size = images.shape[1], images.shape[2]
    scale = view_scale(model, size, viewing.size)
    raw = average(model, [resized(image, scale.factor) for image in images], viewing)
    overviews = [{name: y[index] for name, y in raw.items()} for index in range(len(images))]
    if viewing.mode == "sliding" and scale.zoom > 1:
        return [sliding(model, *parts, viewing, scale) for parts in zip(images, overviews, strict=True)]
    return [_enlarged(model, overview, size) for overview in overviews]


def _enlarged(model: "Model", raw: Maps, size: tuple[int, int]) -> Maps:
    """Return values of raw outputs (K, h, w) at full size, enlarged one band of rows at a time, to save memory."""
    bands = [slice(top, min(top + BAND, size[0])) for top in range(0, size[0], BAND)]
    return {
        name: torch.cat([value_of(model.tasks[name], region_of(y, size, rows, slice(0, size[1]))) for rows in bands], 1)
        for name, y in raw.items()
    }
