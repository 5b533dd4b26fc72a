"""Base class of all tasks: loss, metrics, colours and prior, independent of network and data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import SCORE_GROUPS, SUBSET, Batch, TargetSpec, ignore_of, score_name
from mtlsi_net.metrics.mtan import BatchAverages, image_numbers
from mtlsi_net.tasks.colors import Legend

RAREST = 1e-4
"""Minimum class frequency of a prior (our choice), so that a class never seen has a finite bias."""


class Confusion(NamedTuple):
    """Confusion matrix: ``counts`` (K, K) int64, pixels of each labelled class (row) predicted as each class (column)."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]


class Task(ABC):
    """Interface for everything that depends on what is predicted.

    A task has no name: its key in the mapping of tasks is its name in batches, scores, files and logs, so that two tasks of
    one class can be trained side by side.

    Attributes:
        channels: K, outputs of the network's head.
        target: format of the label map.
        main_metric: key of ``new_metric().compute()`` that tables and gains use.
        class_names: names of the label values, for tasks with classes.
        higher_is_better: whether that metric grows with quality; then its best value is 1, otherwise 0.
    """

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
            target: (B, target.channels, H, W) float, ``target.ignore`` (255) invalid.
            labelled: (2,) result of ``core.types.count_labels`` to divide by; None: that of ``target``.
        """

    @abstractmethod
    def new_metric(self, estimate: bool = False) -> Metric:
        """Return a fresh metric; ``compute()`` -> name -> scalar.

        Args:
            estimate: during training, score only a subset if scoring is slow; names of its scores end in ``_subset``.
        """

    def update(self, metric: Metric, value: Tensor, batch: Batch, name: str) -> None:
        """Add a batch's post-processed predictions, (B, C, H, W) as ``postprocess`` returns them, to ``metric``.

        ``name`` is the task's key in the batch's targets and references.
        """
        numbers = (image_numbers(batch["id"]),) if isinstance(metric, BatchAverages) else ()
        metric.update(value, batch["targets"][name], *numbers)

    def main_key(self, scores: Mapping[str, float], estimate: bool = False) -> str:
        """Return the key of the main metric in ``scores``: its plain name, or that of another group of images if absent.

        Args:
            scores: result of ``new_metric().compute()``.
            estimate: prefer the score of the subset that is scored during training, so that both can be compared.
        """
        groups = (SUBSET, *SCORE_GROUPS) if estimate else SCORE_GROUPS
        return next(name for group in groups if (name := score_name(self.main_metric, group)) in scores)

    @abstractmethod
    def variant(self) -> dict[str, Any]:
        """Return the metric's rules that differ between code bases, as JSON values; stored with every score.

        Only scores with equal rules can be compared.
        """

    def class_scores(self, metric: Metric) -> dict[str, dict[str, float]]:  # noqa: ARG002 - for tasks with classes
        """Return class name -> ``IoU`` and labelled ``pixels`` from an updated metric; empty for a task without classes."""
        return {}

    def confusion(self, metric: Metric) -> Confusion | None:  # noqa: ARG002 - for tasks with classes
        """Return the confusion matrix of an updated metric; None for a task without classes."""
        return None

    def set_prior(self, prior: Tensor) -> None:  # noqa: ARG002 - for losses that depend on frequencies
        """Take over the result of ``prior`` before training, from the training labels or from the resumed run."""
        return

    @abstractmethod
    def postprocess(self, output: Tensor) -> Tensor:
        """Return the values to score and draw from raw outputs (B, channels, H, W); see each task for shape and unit."""

    def activate(self, output: Tensor) -> Tensor:
        """Return raw outputs (B, channels, h, w) as differentiable inputs of another layer; unchanged by default."""
        return output

    @abstractmethod
    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB of one prediction (post-processed) or target (C, H, W); invalid: ``INVALID_COLOR``."""

    def fitted(self, value: Tensor) -> "Task":  # noqa: ARG002 - for tasks with a scale
        """Return the task with its colours adapted to one map (C, H, W); unchanged by default."""
        return self

    @abstractmethod
    def legend(self, value: Tensor) -> Legend:
        """Return the legend for the colours of one map (C, H, W)."""

    @abstractmethod
    def statistics(self, target: Tensor) -> Tensor:
        """Return float64 sums over a target (B, C, H, W) that ``prior`` needs; sums of several targets add up."""

    @abstractmethod
    def prior(self, statistics: Tensor) -> Tensor:
        """Return a good constant raw output (channels,) float32, from summed ``statistics``: the head's initial bias.

        By which measure no other constant is better, each task says.

        Raises:
            InputError: the statistics contain no valid pixel.
        """

    def _labelled(self, count: Tensor) -> Tensor:
        """Return ``count`` if it is positive.

        Raises:
            InputError: it is 0.
        """
        if not count > 0:
            raise InputError(
                "the training labels read contain no valid pixel; check the label files, or leave the task out"
            )
        return count

    def _log_frequencies(self, counts: Tensor) -> Tensor:
        frequencies = counts / self._labelled(counts.sum())
        return frequencies.clamp(min=RAREST).log().float()


def fit_pair(task: Task, label: Tensor, value: Tensor) -> tuple[Task, Task]:
    """Return the task with colours adapted to a label (C, H, W), and with those for a prediction of it.

    Both have one scale; but predicted boundaries have their own, since they may be faint where labels are 0 and 1.
    """
    fitted = task.fitted(label)
    return fitted, task.fitted(value) if task.target.kind == "binary" else fitted


def count_classes(target: Tensor, num_classes: int) -> Tensor:
    """Return the pixels of each class, (num_classes,) float64, of a (B, 1, H, W) class map, ``ignore_of`` invalid."""
    label = target.long()
    bins = torch.where(label != ignore_of(num_classes), label, num_classes)
    return torch.bincount(bins.flatten(), minlength=num_classes + 1)[:num_classes].double()


def valid_window(valid: Tensor) -> tuple[slice, slice]:
    """Return the rows and columns of the valid rectangle in an (H, W) validity mask of a padded image."""
    rows, columns = (torch.nonzero(valid.any(dim=axis)).flatten() for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
