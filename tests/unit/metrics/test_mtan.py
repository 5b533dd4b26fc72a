"""MTAN's averages against the formulas written out in numpy, image by image and batch by batch."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlsi_net.core.errors import InputError
from mtlsi_net.metrics.mtan import (
    MtanDepthMetric,
    MtanNormalsMetric,
    MtanSegmentationMetric,
    image_numbers,
)

IMAGES, CLASSES, SIZE = 5, 4, (6, 7)


def chunks(values, batch):
    return [values[first : first + batch] for first in range(0, len(values), batch)]


def classes(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES - 1, (IMAGES, 1, *SIZE))  # the last class occurs in predictions only
    label[rng.random(label.shape) < 0.2] = 255
    label[2][label[2] == 1] = 0  # a class that neither labels nor prediction of an image have
    predicted = rng.integers(0, CLASSES, label.shape)
    predicted[2][predicted[2] == 1] = 0
    return predicted, label


def semseg_by_hand(predicted, label, batch):
    means, accuracies = [], []
    for p, t in zip(predicted, label, strict=True):
        valid = t != 255
        ious = []
        for k in range(CLASSES):
            union = (((p == k) | (t == k)) & valid).sum()
            if union:
                ious.append(((p == k) & (t == k)).sum() / union)
        means.append(np.mean(ious))
        accuracies.append((p == t)[valid].mean())
    return [np.mean([np.mean(own) for own in chunks(values, batch)]) for values in (means, accuracies)]


def depths(seed):
    rng = np.random.default_rng(seed)
    label = rng.uniform(0.5, 9, (IMAGES, 1, *SIZE))
    label[rng.random(label.shape) < np.linspace(0.1, 0.8, IMAGES)[:, None, None, None]] = 255
    return rng.uniform(0.1, 9, label.shape), label


def depth_by_hand(predicted, label, batch):
    absolute, relative = [], []
    for p, t in zip(chunks(predicted, batch), chunks(label, batch), strict=True):
        valid = t != 255
        absolute.append(np.abs(p - t)[valid].mean())
        relative.append((np.abs(p - t) / t)[valid].mean())
    return [np.mean(absolute), np.mean(relative)]


def normals(seed):
    rng = np.random.default_rng(seed)
    label, predicted = (rng.normal(size=(IMAGES, 3, *SIZE)) for _ in range(2))
    predicted = label + 0.4 * predicted
    label /= np.linalg.norm(label, axis=1, keepdims=True)
    label = np.where(rng.random((IMAGES, 1, *SIZE)) < 0.3, 255, label)
    return predicted, label


def normals_by_hand(predicted, label, batch):
    rows = []
    for p, t in zip(chunks(predicted, batch), chunks(label, batch), strict=True):
        valid = (t != 255).all(axis=1)
        cosine = (p * t).sum(axis=1) / np.linalg.norm(p, axis=1)
        angle = np.degrees(np.arccos(np.clip(cosine[valid], -1, 1)))
        rows.append([angle.mean(), np.median(angle), *((angle < limit).mean() for limit in (11.25, 22.5, 30))])
    return np.mean(rows, axis=0)


CASES = {
    "semseg": (lambda batch: MtanSegmentationMetric(CLASSES, batch=batch), classes, semseg_by_hand),
    "depth": (MtanDepthMetric, depths, depth_by_hand),
    "normals": (MtanNormalsMetric, normals, normals_by_hand),
}


def averages(metric):
    return [float(value) for name, value in metric.compute().items() if name.endswith("_mtan")]


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("task", CASES)
def test_averages_equal_the_written_out_formulas_whatever_the_order_and_grouping_of_updates(task, batch):
    make, draw, by_hand = CASES[task]
    predicted, label = draw(seed=batch)
    expected = by_hand(predicted, label, batch)
    p, t = torch.from_numpy(predicted), torch.from_numpy(label)
    whole, shuffled, merged = make(batch), make(batch), make(batch)
    merged.update(p[:0], t[:0], [])
    whole.update(p, t, list(range(IMAGES)))
    order = [3, 0, 4, 1, 2]
    for part in (order[:2], order[2:]):
        shuffled.update(p[part], t[part], part)
    for image in order:  # as images that are scored in threads
        single = make(batch)
        single.update(p[image : image + 1], t[image : image + 1], [image])
        merged.merge_state(single)
    for metric in (whole, shuffled, merged):
        np.testing.assert_allclose(averages(metric), expected, rtol=1e-9)


@pytest.mark.parametrize("task", CASES)
def test_pooled_scores_are_those_of_the_plain_metric(task):
    make, draw, _ = CASES[task]
    p, t = map(torch.from_numpy, draw(seed=7))
    metric = make(2)
    metric.update(p, t, list(range(IMAGES)))
    plain = type(metric).__mro__[1](*([CLASSES] if task == "semseg" else []))
    plain.update(p, t)
    found = metric.compute()
    expected = {name: float(value) for name, value in plain.compute().items()}
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("task", CASES)
def test_states_of_two_processes_score_like_those_of_one(task):
    make, draw, by_hand = CASES[task]
    predicted, label = draw(seed=3)
    p, t = torch.from_numpy(predicted), torch.from_numpy(label)
    ranks = [make(2), make(2)]
    for rank, metric in enumerate(ranks):
        for image in range(rank, IMAGES, 2):
            metric.update(p[image : image + 1], t[image : image + 1], [image])

    def gathered(tensor: Tensor, group: object) -> list[Tensor]:  # noqa: ARG001 - torchmetrics' signature
        (name,) = [n for n in states if states[n] is tensor]
        return [tensor, other[name]]

    first, second = ranks
    states = {n: v for n, v in first.metric_state.items() if isinstance(v, Tensor)}
    lists = {n: v for n, v in first.metric_state.items() if isinstance(v, list)}
    for name in lists:  # what torchmetrics sends
        value = torch.cat(lists[name]) if lists[name] else torch.tensor([], dtype=first.dtype)
        setattr(first, name, [value])
        states[name] = value
    other = {
        n: v if isinstance(v, Tensor) else torch.cat(v) if v else torch.tensor([], dtype=second.dtype)
        for n, v in second.metric_state.items()
    }
    assert all(states[name].dtype == other[name].dtype for name in states)
    first._sync_dist(gathered)
    np.testing.assert_allclose(averages(first), by_hand(predicted, label, 2), rtol=1e-9)


def test_hand_worked_averages_differ_from_pooled_ones():
    metric = MtanDepthMetric(batch=1)
    first, second = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[4.0, 255.0]]]])
    metric.update(torch.tensor([[[[2.0, 2.0]]], [[[8.0, 1.0]]]]), torch.cat([first, second]), [0, 1])
    scores = {name: float(value) for name, value in metric.compute().items()}
    assert scores["abs_err"] == pytest.approx((1 + 0 + 4) / 3)
    assert scores["abs_err_mtan"] == pytest.approx((0.5 + 4) / 2)
    assert scores["abs_rel"] == pytest.approx((1 + 0 + 1) / 3)
    assert scores["abs_rel_mtan"] == pytest.approx((0.5 + 1) / 2)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("task", CASES)
def test_images_without_labels_are_left_out_and_only_such_give_nan(task):
    make, draw, by_hand = CASES[task]
    predicted, label = draw(seed=11)
    label[1] = 255
    kept = [0, 2, 3, 4]
    metric = make(1)
    metric.update(torch.from_numpy(predicted), torch.from_numpy(label), list(range(IMAGES)))
    np.testing.assert_allclose(averages(metric), by_hand(predicted[kept], label[kept], 1), rtol=1e-9)
    empty = make(2)
    empty.update(torch.from_numpy(predicted[1:2]), torch.from_numpy(label[1:2]), [1])
    assert np.isnan(averages(empty)).all()
    assert np.isnan(averages(make(2))).all()


def test_angles_are_kept_only_until_their_batch_is_whole():
    predicted, label = map(torch.from_numpy, normals(seed=0))
    metric = MtanNormalsMetric(batch=2)
    metric.update(predicted[:3], label[:3], [0, 1, 2])
    assert [int(owner[0]) for owner in metric.owners] == [2]
    metric.update(predicted[3:4], label[3:4], [3])
    assert (metric.owners, metric.angles) == ([], [])


def test_numbers_are_what_ids_end_in():
    assert image_numbers(["val/0", "val/12", "0007"]) == [0, 12, 7]
    with pytest.raises(InputError, match="mtan_batch is set, but image 'kitchen' has no number"):
        image_numbers(["val/0", "kitchen"])
