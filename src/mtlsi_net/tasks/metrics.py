"""Metrics of several tasks at once, updated with post-processed values and labels."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor

from mtlsi_net.core.machine import available_cores
from mtlsi_net.core.types import Batch, cut_batch
from mtlsi_net.metrics.base import PooledMetric
from mtlsi_net.metrics.per_image import ImageRecord, ImageSums, join
from mtlsi_net.tasks.base import Confusion, Task

Scores = dict[str, dict[str, float]]
"""Task -> metric -> value."""

ClassScores = dict[str, dict[str, dict[str, float]]]
"""Task -> class -> ``IoU`` and ``pixels``; only tasks that have classes."""


def postprocess(tasks: Mapping[str, Task], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every task's post-processed value of its raw outputs (B, K, H, W), of any floating type."""
    return {name: task.postprocess(outputs[name].float()) for name, task in tasks.items()}


class TaskMetrics:
    """One metric per task, pooled over all images of its updates.

    Args:
        tasks: name -> Task.
        device: where values and labels are.
        estimate: score slow metrics on a subset, see ``Task.new_metric``.
        keep_images: keep the contribution of each image for ``image_sums``; images are then scored in background threads.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        device: torch.device | str = "cpu",
        estimate: bool = False,
        keep_images: bool = False,
    ) -> None:
        self.tasks, self.device, self.estimate, self.keep_images = dict(tasks), device, estimate, keep_images
        self._metrics = {name: task.new_metric(estimate).to(device) for name, task in self.tasks.items()}
        self._images: dict[str, ImageRecord] = {}
        self._pool = ThreadPoolExecutor() if keep_images else None
        self._pending: deque[tuple[str, Future[TaskMetrics]]] = deque()

    def update(self, values: Mapping[str, Tensor], batch: Batch) -> None:
        """Add post-processed values (B, C, H, W) of some or all tasks against a batch's labels and references."""
        if self._pool is None:
            for name, value in values.items():
                self.tasks[name].update(self._metrics[name], value, batch, name)
            return
        for index, sample_id in enumerate(batch["id"]):
            image_values = {name: value[index : index + 1] for name, value in values.items()}
            self._pending.append(
                (sample_id, self._pool.submit(self._score, image_values, cut_batch(batch, slice(index, index + 1))))
            )
        self._collect(most_pending=len(batch["id"]) + available_cores())  # bounds the memory of pending images

    def _score(self, values: Mapping[str, Tensor], batch: Batch) -> "TaskMetrics":
        image_metrics = TaskMetrics(self.tasks, self.device, self.estimate)
        image_metrics.update(values, batch)
        return image_metrics

    def _collect(self, most_pending: int = 0) -> None:
        """Merge finished images in order until at most ``most_pending`` are left."""
        while len(self._pending) > most_pending:
            sample_id, scored = self._pending.popleft()
            image_metrics = scored.result()
            self._images[sample_id] = image_metrics._sums()
            self.merge(image_metrics)

    def _sums(self) -> ImageRecord:
        return {
            f"{name}/{key}": sums.cpu().numpy().copy()  # copied: later updates change the state
            for name, metric in self._metrics.items()
            if isinstance(metric, PooledMetric)
            for key, sums in metric.image_sums().items()
        }

    def image_sums(self) -> ImageSums:
        """Return the contribution of each image to the main metrics, over all processes; every process must call this."""
        self._collect()
        images, group = self._images, torch.distributed
        if group.is_available() and group.is_initialized():
            parts: list[Any] = [None] * group.get_world_size()
            group.all_gather_object(parts, images)
            images = {sample_id: sums for part in parts for sample_id, sums in part.items()}
        names = {key for record in images.values() for key in record}
        return join(images, {key: cast(PooledMetric, self._metrics[key.partition("/")[0]]).pooling for key in names})

    def merge(self, other: "TaskMetrics") -> None:
        """Merge the state of ``other``, which has the same tasks and must not be used afterwards."""
        other._collect()
        self._images |= other._images
        for name, other_metric in other._metrics.items():
            if not self._metrics[name].update_called:
                self._metrics[name] = other_metric
            elif other_metric.update_called:
                self._metrics[name].merge_state(other_metric)

    def compute(self) -> Scores:
        """Return task -> metric -> value."""
        self._collect()
        return {name: {key: float(v) for key, v in metric.compute().items()} for name, metric in self._metrics.items()}

    def compute_classes(self) -> ClassScores:
        """Return task -> class -> values, for tasks with classes."""
        self._collect()
        scores = {name: task.class_scores(self._metrics[name]) for name, task in self.tasks.items()}
        return {name: classes for name, classes in scores.items() if classes}

    def compute_confusions(self) -> dict[str, Confusion]:
        """Return task -> confusion matrix, for tasks with classes; every process must call this."""
        self._collect()
        found = {name: task.confusion(self._metrics[name]) for name, task in self.tasks.items()}
        return {name: confusion for name, confusion in found.items() if confusion is not None}
