import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import count_labels
from mtlsi_net.data.decoding import label_values, target_values
from mtlsi_net.tasks.colors import INVALID_COLOR
from mtlsi_net.tasks.metrics import TaskMetrics
from mtlsi_net.tasks.semseg import SemsegTask, largest_channel

NAMES = ["sky", "road", "car", "tree", "sign"]
MANY = [f"c{index}" for index in range(1000)]


def example(classes=5, ignore=255, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 6, 7, generator=generator)
    target = torch.randint(0, classes, (2, 1, 6, 7), generator=generator).float()
    target[:, :, 0] = ignore
    return logits, target


# -- ignore_classes ---------------------------------------------------------------------------------------------------


def test_pixels_of_ignored_classes_become_unlabelled_in_stored_and_in_decoded_maps():
    spec = SemsegTask(NAMES, ignore_classes=["road", "sign"]).target
    stored = torch.tensor([0, 1, 2, 3, 4, 255], dtype=torch.uint8).view(1, 1, 1, 6)
    expected = [0, 255, 2, 3, 255, 255]
    for maps in (stored, stored.float()):
        assert target_values(maps, spec).flatten().tolist() == expected
    assert label_values(stored[0].permute(1, 2, 0).numpy(), spec).flatten().tolist() == expected
    assert repr(spec) == repr(SemsegTask(NAMES).target), "cached maps of files stay valid"


def test_ignored_classes_are_as_if_the_network_had_no_output_for_them():
    task = SemsegTask(NAMES, ignore_classes=["road", "sign"])
    logits, raw = example()
    target = target_values(raw, task.target)
    logits.requires_grad_()
    loss = task.loss(logits, target)
    kept = [0, 2, 3]
    to_kept = torch.full((256,), 255)
    to_kept[kept] = torch.arange(3)
    reduced = to_kept[target[:, 0].long()]
    expected = F.cross_entropy(logits[:, kept], reduced, ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, [1, 4]] == 0).all()
    assert gradient.isfinite().all()
    assert not set(task.postprocess(logits).unique().tolist()) & {1, 4}
    shares = task.activate(logits)
    assert (shares[:, [1, 4]] == 0).all()
    torch.testing.assert_close(shares[:, kept], logits[:, kept].softmax(1))


def test_scores_leave_ignored_classes_out():
    task = SemsegTask(NAMES, ignore_classes=["road", "sign"])
    logits, raw = example(seed=1)
    target, prediction = target_values(raw, task.target), task.postprocess(logits)
    metric = task.new_metric()
    metric.update(prediction, target)
    p, t = (x.numpy()[np.isin(raw.numpy(), [0, 2, 3])] for x in (prediction, target))
    iou = {k: np.sum((p == k) & (t == k)) / np.sum((p == k) | (t == k)) for k in (0, 2, 3)}
    assert metric.compute()["mIoU"].item() == pytest.approx(np.mean(list(iou.values())), rel=1e-12)
    assert metric.compute()["pixel_accuracy"].item() == pytest.approx((p == t).mean(), rel=1e-12)
    scores = task.class_scores(metric)
    assert list(scores) == ["sky", "car", "tree"]
    assert scores["car"]["IoU"] == pytest.approx(iou[2], rel=1e-12)
    confusion = task.confusion(metric)
    assert confusion.names == ("sky", "car", "tree")
    assert confusion.counts.tolist() == [[int(np.sum((t == a) & (p == b))) for b in (0, 2, 3)] for a in (0, 2, 3)]
    assert task.variant()["mIoU_classes"] == 3
    assert task.variant()["ignored"] == ["road", "sign"]
    assert "ignored" not in SemsegTask(NAMES).variant(), "records of earlier runs are equal"


@pytest.mark.parametrize(("options", "words"), [
    ({"ignore_classes": ["raod"]}, r"ignore_classes: 'raod' is not known; did you mean 'road'"),
    ({"ignore_classes": ["car", "car"]}, "each only once"),
    ({"ignore_classes": NAMES[1:]}, "leaves 1 classes; keep at least 2"),
    ({"ignore_classes": ["car"], "scored_classes": ["sky", "car"]}, "car cannot be scored, since ignore_classes"),
    ({"class_weights": {"raod": 2.0}}, r"class_weights: 'raod' is not known"),
    ({"class_weights": {"road": -1.0}}, "must be at least 0, and not all 0"),
    ({"class_weights": dict.fromkeys(NAMES, 0.0)}, "must be at least 0, and not all 0"),
    ({"class_weights": {"road": float("inf")}}, "must be at least 0"),
    ({"class_weights": "median"}, "class_weights=median is not known; did you mean 'median_frequency'"),
])  # fmt: skip
def test_wrong_choices_are_named(options, words):
    with pytest.raises(InputError, match=words):
        SemsegTask(NAMES, **options)


# -- class_weights ----------------------------------------------------------------------------------------------------


def test_named_weights_multiply_each_pixels_cross_entropy():
    task = SemsegTask(NAMES, class_weights={"road": 3.0, "sky": 0.5})
    logits, target = example()
    weights = torch.tensor([0.5, 3.0, 1.0, 1.0, 1.0])
    valid = target[:, 0] != 255
    labels = target[:, 0].long().clamp(max=4)
    each = -logits.log_softmax(1).gather(1, labels[:, None])[:, 0] * weights[labels]
    expected = each[valid].sum() / valid.sum()
    assert task.loss(logits, target).item() == pytest.approx(expected.item(), rel=1e-6)
    counts = count_labels(target) / 2
    assert task.loss(logits, target, counts).item() == pytest.approx(2 * expected.item(), rel=1e-6)
    equal = SemsegTask(NAMES, class_weights=dict.fromkeys(NAMES, 1.0))
    assert equal.loss(logits, target).item() == pytest.approx(SemsegTask(NAMES).loss(logits, target).item(), rel=1e-6)


def labels_with(counts):
    values = np.repeat(np.arange(len(counts)), counts).astype(np.float32)
    return torch.from_numpy(values).view(1, 1, 1, -1)


@pytest.mark.parametrize(("name", "expected"), [
    ("median_frequency", [0.2 / 0.4, 0.2 / 0.25, 1.0, 0.2 / 0.1, 0.2 / 0.05]),
    ("inverse_log", [1 / np.log(1.02 + f) for f in (0.4, 0.25, 0.2, 0.1, 0.05)]),
])  # fmt: skip
def test_weights_by_frequency_in_the_training_labels(name, expected):
    task = SemsegTask(NAMES, class_weights=name)
    prior = task.prior(task.statistics(labels_with([40, 25, 20, 10, 5])))
    task.set_prior(prior)
    np.testing.assert_allclose(task.weight.numpy(), expected, rtol=1e-5)
    logits, target = example()
    named = SemsegTask(NAMES, class_weights=dict(zip(NAMES, expected, strict=True)))
    assert task.loss(logits, target).item() == pytest.approx(named.loss(logits, target).item(), rel=1e-5)


def test_the_median_is_that_of_the_classes_not_ignored():
    task = SemsegTask(NAMES, class_weights="median_frequency", ignore_classes=["road", "car"])
    task.set_prior(task.prior(task.statistics(labels_with([60, 0, 0, 30, 10]))))
    assert task.weight[[0, 3, 4]].tolist() == pytest.approx([0.5, 1.0, 3.0], rel=1e-5)


# -- more than 255 classes --------------------------------------------------------------------------------------------


def test_class_255_is_trained_scored_and_drawn_where_there_are_so_many():
    task = SemsegTask(MANY)
    logits, target = example(1000, ignore=65535)
    target[0, 0, 1] = 255
    valid = target != 65535
    labels = target[:, 0].long()
    expected = F.cross_entropy(logits, labels, ignore_index=65535)
    assert task.loss(logits, target).item() == pytest.approx(expected.item(), rel=1e-6)
    assert count_labels(target, task.target.ignore)[0] == valid.sum() == 2 * 5 * 7
    assert task.statistics(target)[255] == (target == 255).sum() >= 7
    assert task.statistics(target).sum() == valid.sum()
    metric = task.new_metric()
    prediction = task.postprocess(logits)
    metric.update(torch.where(target == 255, 255, prediction), target)
    scores = task.class_scores(metric)
    assert scores["c255"]["pixels"] >= 7
    assert scores["c255"]["IoU"] > 0.5
    confusion = task.confusion(metric).counts
    assert confusion.shape == (1000, 1000)
    assert confusion.sum() == valid.sum()
    picture = task.colorize(target[0])
    assert (picture[0] == INVALID_COLOR).all()
    assert (picture[1] == task.palette[255]).all()
    assert not (picture[1] == INVALID_COLOR).all()
    (name, color), *_ = task.legend(target[0]).entries
    assert (name, color) == ("c255", tuple(task.palette[255].tolist()))
    everything = {name for name, _ in task.legend(target[0]).entries}
    assert everything == {MANY[int(k)] for k in target[0].unique() if k != 65535}


def test_a_label_beyond_a_thousand_classes_is_named():
    metric = SemsegTask(MANY).new_metric()
    with pytest.raises(InputError, match=r"class 1000, but the task has 1000, numbered from 0 \(65535: unlabelled\)"):
        metric.update(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1000.0, 65535.0]]]]))


def test_images_are_kept_apart_with_a_thousand_classes():
    task = SemsegTask(MANY)
    metrics = TaskMetrics({"semseg": task}, keep_images=True)
    _, target = example(1000, ignore=65535)
    batch = {"image": torch.zeros(2, 3, 6, 7), "valid": torch.ones(2, 1, 6, 7, dtype=torch.bool), "id": ["a", "b"],
             "targets": {"semseg": target}, "references": {}}  # fmt: skip
    metrics.update({"semseg": target.clamp(max=999).long()}, batch)
    assert metrics.compute()["semseg"]["pixel_accuracy"] == 1.0
    assert metrics.image_sums().sums["semseg/mIoU"].shape == (2, 1000, 2)


# -- the most probable class ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 1, 3, 3), (1, 300, 4, 4), (0, 3, 4, 4)])
def test_the_largest_channel_is_numpys_argmax(shape):
    values = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(0)).float()  # with many equal ones
    values[..., 0] = float("-inf")
    expected = values.numpy().argmax(1)[:, None]
    for output in (values, values.double(), values.bfloat16(), values.clone().requires_grad_()):
        assert torch.equal(largest_channel(output), torch.from_numpy(expected))


def test_a_channel_that_is_no_number_is_the_largest_as_in_torch():
    values = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    values[0, 2:, 1, 1] = float("nan")
    assert torch.equal(largest_channel(values), values.argmax(1, keepdim=True))
    assert largest_channel(values)[0, 0, 1, 1] == 2
