"""What a task owns, whatever the network and the data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import IGNORE, SCORE_GROUPS, SUBSET, Batch, TargetSpec, score_name
from mtlsi_net.tasks.colors import Legend

RAREST = 1e-4
"""Least frequency a prior gives a class (our choice), so that one never seen keeps a finite bias."""


class Task(ABC):
    """Everything that depends on what is predicted.

    Attributes:
        name: key in batches, predictions and logs.
        channels: K, outputs of the network's head.
        target: what the label map is.
        main_metric: key of ``new_metric().compute()`` that tables and gains use.
        class_names: of the values of its label map, if it has classes.
        higher_is_better: whether that metric grows with quality; then its best value is 1, otherwise 0.
    """

    name: str
    channels: int
    target: TargetSpec
    main_metric: str
    higher_is_better: bool
    class_names: tuple[str, ...] = ()

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the unweighted loss, a float32 scalar; 0, with zero gradients, if no pixel is valid.

        Args:
            output: (B, channels, H, W) raw outputs, any floating type.
            target: (B, target.channels, H, W) float, 255 invalid.
            labelled: (2,) ``core.types.count_labels`` to divide by, see there; None: those of ``target``.
        """

    @abstractmethod
    def new_metric(self, estimate: bool = False) -> Metric:
        """Return a fresh metric; ``compute()`` -> name -> scalar.

        Args:
            estimate: where scoring is slow, score a subset only, under a name that says so; for use during training.
        """

    def update(self, metric: Metric, value: Tensor, batch: Batch) -> None:
        """Add a batch's post-processed predictions, (B, C, H, W) as ``postprocess`` returns them, to ``metric``."""
        metric.update(value, batch["targets"][self.name])

    def main_key(self, scores: Mapping[str, float], estimate: bool = False) -> str:
        """Return under which name ``scores`` hold the main metric: its own, or that over other images, if need be.

        Args:
            scores: as ``new_metric().compute()`` gives them.
            estimate: rather the one over the subset that is scored during training, so that both can be compared.
        """
        groups = (SUBSET, *SCORE_GROUPS) if estimate else SCORE_GROUPS
        return next(name for group in groups if (name := score_name(self.main_metric, group)) in scores)

    @abstractmethod
    def variant(self) -> dict[str, Any]:
        """Return the rules of the metric that other code bases handle otherwise, as JSON values; kept with every score.

        Scores of equal rules can be compared.
        """

    def class_scores(self, metric: Metric) -> dict[str, dict[str, float]]:  # noqa: ARG002 - for tasks with classes
        """Return class name -> ``IoU`` and labelled ``pixels`` from a fed metric; empty for a task without classes."""
        return {}

    @abstractmethod
    def postprocess(self, output: Tensor) -> Tensor:
        """Return what is scored and shown for raw outputs (B, channels, H, W); see each task for shape and unit."""

    def activate(self, output: Tensor) -> Tensor:
        """Return raw outputs (B, channels, h, w) as values for another layer to read, differentiable; here unchanged."""
        return output

    @abstractmethod
    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB of one prediction (post-processed) or target (C, H, W); invalid: ``INVALID_COLOR``."""

    def fitted(self, value: Tensor) -> "Task":  # noqa: ARG002 - for tasks with a scale
        """Return the task with colours that suit one map (C, H, W); here all maps have the same."""
        return self

    @abstractmethod
    def legend(self, value: Tensor) -> Legend:
        """Return what explains the colours of one map (C, H, W)."""

    @abstractmethod
    def statistics(self, target: Tensor) -> Tensor:
        """Return float64 sums over a target (B, C, H, W) that ``prior`` needs; sums of several targets add up."""

    @abstractmethod
    def prior(self, statistics: Tensor) -> Tensor:
        """Return the best constant raw output (channels,) float32, from added ``statistics``: the head's first bias.

        Raises:
            InputError: the statistics come from no valid pixel.
        """

    def _labelled(self, count: Tensor) -> Tensor:
        """Return ``count`` if it is positive.

        Raises:
            InputError: it is 0.
        """
        if not count > 0:
            raise InputError(
                f"task {self.name!r}: no training label that was read has a valid pixel; check the label files, or leave the "
                "task out"
            )
        return count

    def _log_frequencies(self, counts: Tensor) -> Tensor:
        frequencies = counts / self._labelled(counts.sum())
        return frequencies.clamp(min=RAREST).log().float()


def count_classes(target: Tensor, num_classes: int) -> Tensor:
    """Return the pixels of each class, (num_classes,) float64, of a (B, 1, H, W) class map, 255 invalid."""
    label = target.long()
    bins = torch.where(label != IGNORE, label, num_classes)
    return torch.bincount(bins.flatten(), minlength=num_classes + 1)[:num_classes].double()


def valid_window(valid: Tensor) -> tuple[slice, slice]:
    """Return rows and columns of the rectangle that an (H, W) validity mask leaves of a padded image."""
    rows, columns = (torch.nonzero(valid.any(dim=axis)).flatten() for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
