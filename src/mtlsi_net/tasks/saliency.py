"""Saliency detection task."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.types import IGNORE, TargetSpec
from mtlsi_net.metrics.per_image import BETA_SQUARED
from mtlsi_net.metrics.saliency import THRESHOLDS, SaliencyMetric
from mtlsi_net.tasks.base import Task, count_classes
from mtlsi_net.tasks.colors import Legend, color_shares, share_legend
from mtlsi_net.tasks.losses import balanced_cross_entropy_loss


class SaliencyTask(Task):
    """Salient object detection as two classes: background and salient."""

    channels = 2
    target = TargetSpec(channels=1, kind="binary")
    main_metric = "maxF"
    higher_is_better = True

    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the cross-entropy balanced by the batch's share of salient pixels."""
        return balanced_cross_entropy_loss(output, target, labelled)

    def new_metric(self, estimate: bool = False) -> SaliencyMetric:  # noqa: ARG002 - fast enough as it is
        """Return maxF (main) and maxF_invpt."""
        return SaliencyMetric()

    def variant(self) -> dict[str, Any]:
        """Return the thresholded quantity of both scores, and the number of thresholds."""
        return {
            "pooled_over": "pixels",
            "thresholds": THRESHOLDS.numel(),
            "beta_squared": BETA_SQUARED,
            "maxF": "probability",
            "maxF_invpt": "sigmoid of the probability",
        }

    def activate(self, output: Tensor) -> Tensor:
        """Return the probabilities of background and salient object."""
        return output.softmax(dim=1)

    def postprocess(self, output: Tensor) -> Tensor:
        """Return the probability of saliency, (B, 1, H, W) float32."""
        return output.float().softmax(dim=1)[:, 1:]

    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return saliency from black to white."""
        return color_shares(value)

    def legend(self, value: Tensor) -> Legend:  # noqa: ARG002 - the same for all images
        """Return the scale of probabilities."""
        return share_legend("salient")

    def statistics(self, target: Tensor) -> Tensor:
        """Return the numbers of other and of salient pixels, (2,)."""
        return count_classes(torch.where(target != IGNORE, (target > 0.5).float(), IGNORE), num_classes=2)

    def prior(self, statistics: Tensor) -> Tensor:
        """Return log frequencies: the constant probability is the salient share (optimal without balancing)."""
        return self._log_frequencies(statistics)
