import numpy as np
import pytest
import torch

from mtlsi_net.core.errors import InputError
from mtlsi_net.tasks.mapped import MappedSemsegTask
from mtlsi_net.tasks.semseg import SemsegTask

TRAINED = SemsegTask(["sofa", "stool", "wall", "person"])
SCORED = SemsegTask(["wall", "chair", "lamp"])
MAP = {"sofa": "chair", "stool": "chair", "person": None}  # wall stands for wall by its name


def batch(label):
    return {"targets": {"semseg": torch.tensor(label)[:, None].float()}, "id": ["0"] * len(label)}


def test_probabilities_of_classes_that_stand_for_one_add_up():
    task = MappedSemsegTask(TRAINED, SCORED, MAP)
    output = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    p = output.exp().numpy()
    expected = np.stack([p[:, 2], p[:, 0] + p[:, 1], np.zeros_like(p[:, 0])], axis=1)
    np.testing.assert_array_equal(task.postprocess(output)[:, 0], expected.argmax(axis=1))
    np.testing.assert_allclose(task.logits(output).exp(), expected, rtol=1e-5)
    assert (task.channels, task.class_names, task.lost) == (4, SCORED.class_names, ["lamp"])


def test_scores_ignore_labels_without_a_counterpart_as_worked_by_hand():
    task = MappedSemsegTask(TRAINED, SCORED, MAP)
    metric = task.new_metric()
    label = [[[0, 0, 1, 1, 2, 255]]]  # wall, wall, chair, chair, lamp, none
    predicted = torch.tensor([[[[0, 1, 1, 1, 0, 0]]]])
    task.update(metric, predicted, batch(label), "semseg")
    scores = {name: float(value) for name, value in metric.compute().items()}
    assert scores["pixel_accuracy"] == pytest.approx(3 / 4)
    assert scores["mIoU"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # of wall and chair
    assert task.class_scores(metric)["chair"] == {"IoU": pytest.approx(2 / 3), "pixels": 2.0}
    assert task.variant()["class_map"] == {"sofa": "chair", "stool": "chair", "wall": "wall", "person": None}
    assert task.variant()["mIoU_classes"] == 2


def test_equal_names_in_another_order_need_no_mapping():
    other = SemsegTask(["person", "wall", "stool", "sofa"])
    task = MappedSemsegTask(TRAINED, other)
    output = torch.eye(4)[None, :, None].repeat(1, 1, 2, 1)
    names = [other.class_names[k] for k in task.postprocess(output)[0, 0, 0].tolist()]
    assert names == list(TRAINED.class_names)
    assert task.lost == []


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"soffa": "chair"}, "class 'soffa' is none that the network was trained on; did you mean 'sofa'"),
        ({"sofa": "chiar"}, "class 'chiar' is none that the data has; did you mean 'chair'"),
        ({"wall": None}, "no class of the network stands for a class of the data"),
    ],
)
def test_mappings_that_do_not_fit_are_refused(mapping, message):
    with pytest.raises(InputError, match=message):
        MappedSemsegTask(TRAINED, SCORED, mapping)


def test_classes_of_data_with_more_than_255_of_them_are_left_out_as_unlabelled():
    names = [f"c{k}" for k in range(300)]
    scored = SemsegTask(names, class_weights="median_frequency", ignore_classes=["c1"])
    task = MappedSemsegTask(SemsegTask(["c255", "c2", "c1"]), scored)
    task.set_prior(torch.zeros(3))  # frequencies of the network's classes, not of the data's
    target = torch.tensor([[[[255.0, 2.0, 7.0, 65535.0]]]])
    assert task.known(target).flatten().tolist() == [255, 2, 65535, 65535]
    output = torch.tensor([9.0, 0.0, 20.0]).view(1, 3, 1, 1).expand(1, 3, 1, 4)
    assert task.postprocess(output).flatten().tolist() == [255] * 4, "c1 is ignored, though the network prefers it"
