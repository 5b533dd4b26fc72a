"""Scores of several tasks: the one place where post-processed values and labels meet the metrics."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtlsi_net.specs import Batch
from mtlsi_net.tasks.base import Task

Scores = dict[str, dict[str, float]]
"""Task -> metric -> value."""

ClassScores = dict[str, dict[str, dict[str, float]]]
"""Task -> class -> ``IoU`` and ``pixels``; only tasks that have classes."""


def postprocess(tasks: Mapping[str, Task], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every task's post-processed value of its raw outputs (B, K, H, W), of any floating type."""
    return {name: task.postprocess(outputs[name].float()) for name, task in tasks.items()}


class TaskMetrics:
    """A fresh metric for each task, pooled over all images it is fed with.

    Args:
        tasks: name -> Task.
        device: where values and labels are.
        estimate: score slow metrics on a subset, see ``Task.new_metric``.
    """

    def __init__(self, tasks: Mapping[str, Task], device: torch.device | str = "cpu", estimate: bool = False) -> None:
        self.tasks = dict(tasks)
        self._metrics = {name: task.new_metric(estimate).to(device) for name, task in self.tasks.items()}

    def update(self, values: Mapping[str, Tensor], batch: Batch) -> None:
        """Add post-processed values (B, C, H, W) of some or all tasks against a batch's labels and references."""
        for name, value in values.items():
            self.tasks[name].update(self._metrics[name], value, batch)

    def merge(self, other: "TaskMetrics") -> None:
        """Take in what another of the same tasks has seen, which is of no use any more after that."""
        for name, theirs in other._metrics.items():
            if not self._metrics[name].update_called:
                self._metrics[name] = theirs
            elif theirs.update_called:
                self._metrics[name].merge_state(theirs)

    def compute(self) -> Scores:
        """Return task -> metric -> value."""
        return {name: {key: float(v) for key, v in metric.compute().items()} for name, metric in self._metrics.items()}

    def compute_classes(self) -> ClassScores:
        """Return task -> class -> values, of the tasks that have classes."""
        found = {name: task.class_scores(self._metrics[name]) for name, task in self.tasks.items()}
        return {name: classes for name, classes in found.items() if classes}
