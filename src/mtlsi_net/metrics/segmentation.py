"""Pixel-pooled class-map metrics: IoU per class and accuracy (docs/reference/metrics.md)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import ignore_of
from mtlsi_net.metrics.base import PooledMetric


def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Return how many valid pixels of each labelled class (row) were predicted as each class (column).

    Args:
        prediction: (B, 1, H, W) classes 0..num_classes-1.
        target: (B, 1, H, W) classes, integer or float, 255 invalid (65535 of more than 255 classes).
        num_classes: K.

    Returns:
        (K, K) int64.

    Raises:
        InputError: a label lies outside 0..K-1 and is not invalid.
    """
    label, ignore = target.long(), ignore_of(num_classes)
    # Bin 0 takes the invalid pixels: no boolean indexing, and a label beyond K-1 shows as a longer histogram.
    bins = torch.where(label != ignore, label * num_classes + prediction.long() + 1, 0)
    counts = torch.bincount(bins.flatten(), minlength=num_classes**2 + 1)
    if counts.numel() > num_classes**2 + 1:
        raise InputError(
            f"labels hold class {(counts.numel() - 2) // num_classes}, but the task has {num_classes}, numbered from 0 "
            f"({ignore}: unlabelled); check the label files against the task's class list"
        )
    return counts[1:].reshape(num_classes, num_classes)


def hits_and_union(confusion: Tensor) -> Tensor:
    """Return TP and TP + FP + FN of each class, (K, 2)."""
    hits = confusion.diagonal()
    return torch.stack([hits, confusion.sum(0) + confusion.sum(1) - hits], dim=1)


class SegmentationMetric(PooledMetric):
    """mIoU, mIoU_present and pixel_accuracy over all pixels of the set, as fractions.

    mIoU averages over ``scored`` (paper's protocol: all classes; a class absent from labels and predictions counts as
    0). mIoU_present (our addition) averages over the classes that occur in the labels. All are NaN while no valid
    pixel was seen.

    Args:
        num_classes: K.
        scored: indices of the classes that mIoU averages; all if None.

    Example:
        >>> import torch
        >>> metric = SegmentationMetric(num_classes=3)
        >>> metric.update(torch.tensor([[[[0, 1, 1, 2]]]]), torch.tensor([[[[0, 0, 1, 255]]]]))  # 255: no label
        >>> scores = metric.compute()
        >>> round(scores["mIoU"].item(), 4), scores["mIoU_present"].item()  # class 2 is absent: 0 in mIoU
        (0.3333, 0.5)
    """

    higher_is_better = True
    pooling = "mean_ratio"
    confusion: Tensor

    def __init__(self, num_classes: int, scored: Sequence[int] | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scored = list(range(num_classes) if scored is None else scored)
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count (B, 1, H, W) class predictions against (B, 1, H, W) labels, 255 invalid."""
        self.confusion += confusion_matrix(prediction, target, self.num_classes)

    def image_sums(self) -> dict[str, Tensor]:
        """Return TP and TP + FP + FN of each class that mIoU averages."""
        return {"mIoU": hits_and_union(self.confusion)[self.scored]}

    def per_class(self) -> Tensor:
        """Return each class's IoU, TP / (TP + FP + FN), (K,) float64; 0 for a class seen nowhere."""
        hits, union = hits_and_union(self.confusion).unbind(1)
        return hits.double() / union.clamp(min=1)

    def compute(self) -> dict[str, Tensor]:
        """Return the three scalars, float64."""
        iou, total = self.per_class(), self.confusion.sum()
        present = self.confusion.sum(1) > 0
        nan = iou.new_full((), float("nan"))
        return {
            "mIoU": torch.where(total > 0, iou[self.scored].mean(), nan),
            "mIoU_present": iou[present].mean(),
            "pixel_accuracy": self.confusion.diagonal().sum().double() / total.where(total > 0, nan),
        }
