"""Depth estimation task, in metres."""

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import IGNORE, TargetSpec
from mtlsi_net.metrics.depth import DepthMetric
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.colors import Legend, color_scalars, scalar_legend
from mtlsi_net.tasks.losses import l1_loss


class DepthTask(Task):
    """Monocular depth.

    Args:
        depth_range: metres shown as the darkest and the brightest colour; no effect on loss or metrics.

    Raises:
        InputError: the range is not increasing.
    """

    channels = 1
    target = TargetSpec(channels=1, kind="scalar", fill=0.0, zoom_divides=True, invalid="zero")
    main_metric = "rmse"
    higher_is_better = False

    def __init__(self, depth_range: tuple[float, float] = (0.0, 10.0)) -> None:
        low, high = depth_range
        if not low < high:
            raise InputError(f"depth_range=[{low}, {high}] is empty; give [nearest, farthest] in metres")
        self.depth_range = (low, high)

    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the mean absolute error over valid pixels, in metres."""
        return l1_loss(output, target, labelled)

    def new_metric(self, estimate: bool = False) -> DepthMetric:  # noqa: ARG002 - fast enough as it is
        """Return rmse (main, metres), abs_rel, log_rmse, sq_rel, delta1, delta2 and delta3."""
        return DepthMetric()

    def variant(self) -> dict[str, Any]:
        """Return the pooling, and that depth is neither cropped, scaled nor capped."""
        return {"pooled_over": "pixels", "crop": None, "scaling": None, "cap": None}

    def postprocess(self, output: Tensor) -> Tensor:
        """Return metres >= 0, (B, 1, H, W)."""
        return output.clamp(min=0)

    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return depth in viridis over ``depth_range``."""
        return color_scalars(value, *self.depth_range)

    def fitted(self, value: Tensor) -> "DepthTask":
        """Return the task with colours from the nearest to the farthest of a map, in steps of half a metre."""
        known = value[(value != IGNORE) & value.isfinite()]
        if known.numel() == 0:
            return self
        low, high = math.floor(2 * float(known.min())) / 2, math.ceil(2 * float(known.max())) / 2
        fitted = copy.copy(self)
        fitted.depth_range = (low, max(high, low + 0.5))
        return fitted

    def legend(self, value: Tensor) -> Legend:  # noqa: ARG002 - one scale for all images
        """Return the scale in metres."""
        return scalar_legend(*self.depth_range, unit="m")

    def statistics(self, target: Tensor) -> Tensor:
        """Return the sum of depths and the number of pixels, (2,)."""
        valid = target != IGNORE
        return torch.stack([torch.where(valid, target, 0.0).double().sum(), valid.sum().double()])

    def prior(self, statistics: Tensor) -> Tensor:
        """Return the mean depth, the constant of least RMSE (for the loss itself the median would be best)."""
        return (statistics[:1] / self._labelled(statistics[1])).float()
