import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from mtlsi_net.core.errors import UserError
from mtlsi_net.metrics.segmentation import SegmentationMetric, confusion_matrix


def example(classes: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, classes, (3, 1, 9, 7), generator=generator)
    target = torch.randint(0, classes, (3, 1, 9, 7), generator=generator).float()
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return prediction, target


def test_confusion_matrix_agrees_with_torchmetrics():
    prediction, target = example()
    ours = confusion_matrix(prediction, target, 6)
    assert ours.dtype == torch.int64
    assert torch.equal(ours, multiclass_confusion_matrix(prediction, target.long(), 6, ignore_index=255))


def test_miou_agrees_with_torchmetrics_when_all_classes_occur():
    prediction, target = example()
    metric = SegmentationMetric(6)
    metric.update(prediction, target)
    reference = multiclass_jaccard_index(prediction, target.long(), 6, ignore_index=255)
    assert metric.compute()["mIoU"].item() == pytest.approx(reference.item(), rel=1e-6)


def test_absent_classes_count_as_zero_in_miou_only():
    target = torch.tensor([0.0, 0, 1, 1, 255, 255]).reshape(1, 1, 2, 3)
    prediction = torch.tensor([0, 0, 1, 3, 4, 4]).reshape(1, 1, 2, 3)  # 3 is never labelled, 2 and 4 occur nowhere
    metric = SegmentationMetric(5)
    metric.update(prediction, target)
    scores = metric.compute()
    assert metric.per_class().tolist() == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert scores["mIoU"].item() == pytest.approx(1.5 / 5)
    assert scores["mIoU_present"].item() == pytest.approx(0.75)
    assert scores["pixel_accuracy"].item() == pytest.approx(0.75)


def test_scored_classes_restrict_the_mean_but_not_the_errors():
    prediction, target = example()
    metric = SegmentationMetric(6, scored=[1, 4])
    metric.update(prediction, target)
    p, t = (x.numpy()[target.numpy() != 255] for x in (prediction, target))
    iou = [np.sum((p == k) & (t == k)) / np.sum((p == k) | (t == k)) for k in range(6)]
    assert metric.compute()["mIoU"].item() == pytest.approx((iou[1] + iou[4]) / 2, rel=1e-12)
    assert metric.compute()["mIoU_present"].item() == pytest.approx(np.mean(iou), rel=1e-12)


@pytest.mark.parametrize("label", [6.0, 7.0, 254.0])
def test_unknown_label_is_named(label):
    prediction, target = example()
    target[0, 0, 0, 0] = label
    with pytest.raises(UserError, match=rf"class {label:g}, but the task has 6"):
        confusion_matrix(torch.zeros_like(prediction), target, 6)
