"""Surface normal estimation task."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.errors import choose
from mtlsi_net.core.types import IGNORE, TargetSpec
from mtlsi_net.metrics.mtan import MtanNormalsMetric, mtan_rules
from mtlsi_net.metrics.normals import BINS_PER_DEGREE, LIMITS, NormalsMetric, unit_vectors
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.colors import Legend, color_vectors, vector_legend
from mtlsi_net.tasks.losses import cosine_loss, normals_loss


class NormalsTask(Task):
    """Unit surface normals, x, y, z; x changes sign when the image is mirrored.

    Args:
        loss_form: ``l1``, the lineage's, or ``cosine``, one minus the cosine of the angle, MTAN's.
        mtan_batch: images of a batch in averages over batches, see ``metrics.mtan``; None: no such averages.
    """

    channels = 3
    target = TargetSpec(channels=3, kind="vector", fill=0.0, flip_sign=(-1.0, 1.0, 1.0), invalid="short_vector")
    main_metric = "mean"
    higher_is_better = False

    def __init__(self, loss_form: Literal["l1", "cosine"] = "l1", mtan_batch: PositiveInt | None = None) -> None:
        self.loss_of = choose("loss_form", loss_form, {"l1": normals_loss, "cosine": cosine_loss})
        self.mtan_batch = mtan_batch

    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the absolute error of the normalised output, summed over channels, or 1 - cosine; a mean over valid pixels."""
        return self.loss_of(output, target, labelled)

    def new_metric(self, estimate: bool = False) -> NormalsMetric:  # noqa: ARG002 - fast enough as it is
        """Return mean (main, degrees), median, rmse, within_11.25, ...; with ``mtan_batch`` also MTAN's averages."""
        return NormalsMetric() if self.mtan_batch is None else MtanNormalsMetric(self.mtan_batch)

    def variant(self) -> dict[str, Any]:
        """Return the pooling and the resolution of the median."""
        rules = {"pooled_over": "pixels", "median_step_degrees": 1 / BINS_PER_DEGREE}
        within = {f"within_{limit:g}_mtan": True for limit in LIMITS}
        return rules | mtan_rules(self.mtan_batch, {"mean_mtan": False, "median_mtan": False, **within})

    def activate(self, output: Tensor) -> Tensor:
        """Return unit vectors."""
        return unit_vectors(output.float())

    def postprocess(self, output: Tensor) -> Tensor:
        """Return unit vectors, (B, 3, H, W)."""
        return unit_vectors(output)

    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return x, y, z from -1 to 1 as red, green, blue."""
        return color_vectors(value)

    def legend(self, value: Tensor) -> Legend:  # noqa: ARG002 - the same for all images
        """Return the axes' colours."""
        return vector_legend()

    def statistics(self, target: Tensor) -> Tensor:
        """Return the sum of the normals and the number of pixels, (4,)."""
        valid = (target != IGNORE).all(dim=1, keepdim=True)
        total = torch.where(valid, target, 0.0).double().sum(dim=(0, 2, 3))
        return torch.cat([total, valid.sum().double()[None]])

    def prior(self, statistics: Tensor) -> Tensor:
        """Return the direction of the mean normal, a unit vector."""
        return F.normalize(statistics[:3] / self._labelled(statistics[3]), dim=0).float()
