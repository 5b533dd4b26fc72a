"""Tasks with class maps: semantic segmentation and human parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.class_sets import class_indices, class_names, class_palette
from mtlsi_net.metrics.mtan import MtanSegmentationMetric, mtan_rules
from mtlsi_net.metrics.segmentation import SegmentationMetric
from mtlsi_net.tasks.base import Task, count_classes
from mtlsi_net.tasks.colors import Legend, class_legend, color_classes
from mtlsi_net.tasks.losses import cross_entropy_loss


class SemsegTask(Task):
    """Semantic segmentation.

    Args:
        classes: a standard set's name (``nyud40``, ``voc21``, ``parts7``) or class names in the order of the labels.
        scored_classes: names of the classes that mIoU averages; all if None (paper).
        mtan_batch: images of a batch in averages over batches, see ``metrics.mtan``; None: no such averages.

    Raises:
        InputError: unknown set or class name (the nearest ones are named), repeated or too few names.
    """

    main_metric = "mIoU"
    higher_is_better = True

    def __init__(
        self,
        classes: str | Sequence[str],
        scored_classes: Sequence[str] | None = None,
        mtan_batch: PositiveInt | None = None,
    ) -> None:
        self.class_names = class_names(classes)
        self.scored = None if scored_classes is None else class_indices(scored_classes, self.class_names)
        self.mtan_batch = mtan_batch
        self.palette = class_palette(self.class_names)
        self.channels = len(self.class_names)
        self.target = TargetSpec(channels=1, kind="classes", num_classes=self.channels)

    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy over valid pixels."""
        return cross_entropy_loss(output, target, labelled)

    def new_metric(self, estimate: bool = False) -> SegmentationMetric:  # noqa: ARG002 - fast enough as it is
        """Return mIoU (main), mIoU_present and pixel_accuracy; with ``mtan_batch`` also MTAN's averages."""
        if self.mtan_batch is not None:
            return MtanSegmentationMetric(len(self.class_names), self.scored, self.mtan_batch)
        return SegmentationMetric(len(self.class_names), self.scored)

    def variant(self) -> dict[str, Any]:
        """Return the pooling, how many classes there are and how many of them mIoU averages."""
        classes = len(self.class_names)
        scored = classes if self.scored is None else len(self.scored)
        rules = {"pooled_over": "pixels", "classes": classes, "mIoU_classes": scored, "absent_class": 0.0}
        return rules | mtan_rules(self.mtan_batch, {"mIoU": True, "pixel_accuracy": True})

    def class_scores(self, metric: Metric) -> dict[str, dict[str, float]]:
        """Return class name -> IoU (0 for a class seen nowhere) and labelled pixels."""
        assert isinstance(metric, SegmentationMetric)
        with metric.sync_context():  # sums the counts of all processes
            iou, pixels = metric.per_class().tolist(), metric.confusion.sum(1).tolist()
        return {name: {"IoU": i, "pixels": float(p)} for name, i, p in zip(self.class_names, iou, pixels, strict=True)}

    def activate(self, output: Tensor) -> Tensor:
        """Return class probabilities."""
        return output.softmax(dim=1)

    def postprocess(self, output: Tensor) -> Tensor:
        """Return the most probable class, (B, 1, H, W) int64."""
        return output.argmax(dim=1, keepdim=True)

    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return a class map in the class set's colours."""
        return color_classes(value, self.palette)

    def legend(self, value: Tensor) -> Legend:
        """Return the classes of the map, the largest first."""
        return class_legend(value, self.class_names, self.palette)

    def statistics(self, target: Tensor) -> Tensor:
        """Return the pixels of each class, (K,)."""
        return count_classes(target, len(self.class_names))

    def prior(self, statistics: Tensor) -> Tensor:
        """Return log class frequencies; its post-processed form is the most frequent class."""
        return self._log_frequencies(statistics)


class HumanPartsTask(SemsegTask):
    """Human parts: a class map that is unlabelled as a whole where no person shows.

    Args:
        classes: as in ``SemsegTask``.

    Raises:
        InputError: as in ``SemsegTask``.
    """

    def __init__(self, classes: str | Sequence[str] = "parts7") -> None:
        super().__init__(classes)
        self.target = TargetSpec(channels=1, kind="classes", num_classes=self.channels, invalid="background_only")
