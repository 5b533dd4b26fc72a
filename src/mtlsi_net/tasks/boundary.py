"""Boundary detection task."""

import copy
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import IGNORE, Batch, TargetSpec
from mtlsi_net.metrics.boundary.presets import make_preset
from mtlsi_net.tasks.base import Task, valid_window
from mtlsi_net.tasks.colors import Legend, color_shares, round_up, share_legend
from mtlsi_net.tasks.losses import boundary_loss

FAINTEST = 0.05
"""Lowest probability that pictures are scaled to: where all are below it, there is hardly anything to see."""


class BoundaryTask(Task):
    """Boundaries of objects.

    Args:
        positive_weight: weight of boundary pixels in the loss, in (0, 1); other pixels weigh 1 minus this (lineage: 0.95).
        preset: rules of the boundary metric, see ``mtlsi_net.metrics.boundary``.

    Raises:
        InputError: the weight lies outside (0, 1).
    """

    channels = 1
    target = TargetSpec(channels=1, kind="binary", reference=True)
    main_metric = "odsF"
    higher_is_better = True
    white = 1.0
    """Probability that is drawn white."""

    def __init__(self, positive_weight: float = 0.95, preset: str = "nyud") -> None:
        if not 0 < positive_weight < 1:
            raise InputError(f"positive_weight={positive_weight}; give a number between 0 and 1")
        self.positive_weight, self.preset = positive_weight, preset

    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the weighted binary cross-entropy, averaged over valid pixels."""
        return boundary_loss(output, target, self.positive_weight, labelled)

    def new_metric(self, estimate: bool = False) -> Metric:
        """Return odsF (main), oisF, AP and threshold; as an estimate, only odsF_subset."""
        from mtlsi_net.metrics.boundary.metric import (
            BoundaryFMeasure,
        )  # imports compiled code: only if boundaries are scored

        return BoundaryFMeasure(self.preset, estimate)

    def update(self, metric: Metric, value: Tensor, batch: Batch, name: str) -> None:
        """Add predictions at the size of the label files: padding is cropped, reduced images are enlarged again."""
        references = batch["references"][name]
        natives = []
        for probability, valid, reference in zip(value, batch["valid"], references, strict=True):
            cut, size = probability[:, *valid_window(valid[0])], reference.maps.shape[1:]
            if cut.shape[1:] != size:
                cut = F.interpolate(cut[None], size, mode="bilinear", align_corners=False)[0]
            natives.append(cut)
        metric.update(natives, references)

    def variant(self) -> dict[str, Any]:
        """Return the preset's name, its rules, and the number of thresholds."""
        rules = asdict(make_preset(self.preset))
        return {"preset": self.preset} | rules | {"thresholds": len(rules["thresholds"])}

    def activate(self, output: Tensor) -> Tensor:
        """Return the probability of a boundary."""
        return output.sigmoid()

    def postprocess(self, output: Tensor) -> Tensor:
        """Return the probability of a boundary, (B, 1, H, W) float32."""
        return output.float().sigmoid()

    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return boundaries white on black."""
        return color_shares(value, self.white)

    def fitted(self, value: Tensor) -> "BoundaryTask":
        """Return the task with the highest probability of a map drawn white, rounded up to two digits, at least ``FAINTEST``."""
        known = value[(value != IGNORE) & value.isfinite()]
        fitted = copy.copy(self)
        if known.numel():
            fitted.white = min(1.0, round_up(max(FAINTEST, float(known.max()))))
        return fitted

    def legend(self, value: Tensor) -> Legend:  # noqa: ARG002 - one scale for all images
        """Return the scale of probabilities."""
        return share_legend("boundary", self.white)

    def statistics(self, target: Tensor) -> Tensor:
        """Return the (soft) numbers of other and of boundary pixels, (2,)."""
        valid = target != IGNORE
        positives = torch.where(valid, target, 0.0).double().sum()
        return torch.stack([valid.sum() - positives, positives])

    def prior(self, statistics: Tensor) -> Tensor:
        """Return the weighted log-odds of a boundary, the best constant logit for the loss."""
        weight = torch.tensor([1 - self.positive_weight, self.positive_weight], device=statistics.device)
        return (self._log_frequencies(statistics) + weight.log()).diff()
