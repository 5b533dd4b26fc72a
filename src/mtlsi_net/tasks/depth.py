"""Depth estimation task, in metres."""

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import IGNORE, TargetSpec
from mtlsi_net.metrics.depth import DepthMetric
from mtlsi_net.metrics.mtan import MtanDepthMetric, mtan_rules
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.colors import Legend, color_scalars, scalar_legend
from mtlsi_net.tasks.losses import l1_loss


class DepthTask(Task):
    """Monocular depth.

    Args:
        depth_range: metres shown as the darkest and the brightest colour; no effect on loss or metrics.
        mtan_batch: images of a batch in averages over batches, see ``metrics.mtan``, which then also makes the mean
            absolute error the main metric; None: no such averages.

    Raises:
        InputError: the range is not increasing.
    """

    channels = 1
    target = TargetSpec(channels=1, kind="scalar", fill=0.0, zoom_divides=True, invalid="zero")
    main_metric = "rmse"
    higher_is_better = False
    unit = "m"

    def __init__(self, depth_range: tuple[float, float] = (0.0, 10.0), mtan_batch: PositiveInt | None = None) -> None:
        low, high = depth_range
        if not low < high:
            raise InputError(f"depth_range=[{low}, {high}] is empty; give [lowest, highest], e.g. [0, 10] metres")
        self.depth_range = (low, high)
        self.mtan_batch = mtan_batch
        if mtan_batch is not None:
            self.main_metric = "abs_err"

    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the mean absolute error over valid pixels, in metres."""
        return l1_loss(output, target, labelled)

    def new_metric(self, estimate: bool = False) -> DepthMetric:  # noqa: ARG002 - fast enough as it is
        """Return rmse (main), abs_err, abs_rel, ..., see ``DepthMetric``; with ``mtan_batch`` also MTAN's averages."""
        return DepthMetric() if self.mtan_batch is None else MtanDepthMetric(self.mtan_batch)

    def variant(self) -> dict[str, Any]:
        """Return the pooling, and that depth is neither cropped, scaled nor capped."""
        rules = {"pooled_over": "pixels", "crop": None, "scaling": None, "cap": None}
        return rules | mtan_rules(self.mtan_batch, {"abs_err_mtan": False, "abs_rel_mtan": False})

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
        return scalar_legend(*self.depth_range, unit=self.unit)

    def statistics(self, target: Tensor) -> Tensor:
        """Return the sum of depths and the number of pixels, (2,)."""
        valid = target != IGNORE
        return torch.stack([torch.where(valid, target, 0.0).double().sum(), valid.sum().double()])

    def prior(self, statistics: Tensor) -> Tensor:
        """Return the mean depth, the constant of least RMSE (for the loss itself the median would be best)."""
        return (statistics[:1] / self._labelled(statistics[1])).float()


class DisparityTask(DepthTask):
    """Disparity or inverse depth, larger where things are nearer, in whatever unit the files hold; 0 is missing.

    Args:
        depth_range: values shown as the darkest and the brightest colour.
        mtan_batch: as in ``DepthTask``.
        zoom_divides: whether enlarging the image divides the values, as the code behind published numbers does. By geometry
            it would multiply them; False leaves them.
    """

    unit = "disparity"

    def __init__(
        self,
        depth_range: tuple[float, float] = (0.0, 0.5),
        mtan_batch: PositiveInt | None = None,
        zoom_divides: bool = True,
    ) -> None:
        super().__init__(depth_range, mtan_batch)
        self.target = replace(self.target, zoom_divides=zoom_divides)

    def fitted(self, value: Tensor) -> "DisparityTask":
        """Return the task with colours from the lowest to the highest value of a map."""
        known = value[(value != IGNORE) & value.isfinite()]
        if known.numel() == 0 or not known.max() > known.min():
            return self
        fitted = copy.copy(self)
        fitted.depth_range = (float(known.min()), float(known.max()))
        return fitted
