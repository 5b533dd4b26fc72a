"""Grids of pictures: which samples they show, and their legends."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.miniature import compose_config, write_miniature
from PIL import Image

from mtlsi_net.engine import pictures
from mtlsi_net.engine.build import build_data, build_tasks
from mtlsi_net.engine.pictures import Sample, predict_samples, write_grid, write_labels
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.colors import INVALID_COLOR
from mtlsi_net.tasks.depth import DepthTask
from mtlsi_net.tasks.semseg import SemsegTask

COUNT = 9


def test_without_samples_there_is_no_grid(tmp_path):
    write_grid([], {}, tmp_path / "val.png")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def data(tmp_path):
    root = write_miniature(tmp_path / "data", train=4, val=COUNT)
    words = (f"data.root={root}", "data.size=[48,64]", "tasks.semseg.classes=[a,b,c,d,e]", "data.eval_batch_size=4")
    cfg = compose_config("data=folder", *words, "~tasks.normals", "~tasks.boundary", "~tasks.depth")
    return build_data(cfg, build_tasks(cfg))


class Constant(torch.nn.Module):
    """A trained module whose network says class 1 everywhere; ``sizes`` are those of its batches."""

    def __init__(self):
        super().__init__()
        self.tasks, self.device, self.sizes = {"semseg": SemsegTask(list("abcde"))}, torch.device("cpu"), []

    def forward(self, image, valid):
        self.sizes.append(len(image))
        scores = torch.nn.functional.one_hot(torch.ones_like(valid[:, 0], dtype=torch.long), 5)
        return SimpleNamespace(final={"semseg": scores.movedim(-1, 1).float()})


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [4]), (4, [4]), (6, [4, 4]), (COUNT, [4, 4, 1]), (20, [4, 4, 1])]
)
def test_samples_are_drawn_at_random_once_each_in_order_and_in_whole_batches(data, count, sizes):
    module = Constant()
    samples = predict_samples(module, data, "val", count)
    ids = [sample.sample_id for sample in samples]
    assert len(ids) == min(count, COUNT)
    assert ids == sorted(set(ids))
    assert module.sizes == sizes
    assert module.training
    for sample in samples:
        stored = np.asarray(Image.open(data.root / "segmentation" / f"{sample.sample_id}.png")).astype(int) - 1
        assert np.array_equal(sample.labels["semseg"][0].numpy().astype(int), np.where(stored < 0, 255, stored))
        assert (sample.values["semseg"] == 1).all()


def test_the_same_samples_are_drawn_again_and_they_are_not_the_first(data):
    ids = [[s.sample_id for s in predict_samples(Constant(), data, "val", 3)] for _ in range(2)]
    assert ids[0] == ids[1] != data.datasets["val"].ids[:3]


@pytest.fixture
def drawn(monkeypatch):
    """Return what grids are drawn from."""
    calls = []
    monkeypatch.setattr(pictures, "draw_grid", lambda *args: calls.append(args))
    return calls


def test_legends_are_those_of_all_rows(tmp_path, drawn):
    tasks = {"semseg": SemsegTask(["wall", "oven", "table"]), "depth": DepthTask(), "boundary": BoundaryTask()}
    one, two = torch.zeros(1, 2, 3), torch.zeros(1, 4, 2)  # sizes differ
    labels = [
        {"semseg": one + 1, "depth": one + 2.2, "boundary": one},
        {"semseg": two + 255, "depth": two + 3, "boundary": two + 1},
    ]
    values = [
        {"semseg": one.long() + 2, "depth": one + 9, "boundary": one + 0.1},
        {"semseg": two.long() + 1, "depth": two + 1, "boundary": two + 0.2},
    ]
    image = [np.zeros((*own.shape[1:], 3), np.uint8) for own in (one, two)]
    write_grid([Sample(f"{k}", image[k], labels[k], values[k]) for k in (0, 1)], tasks, tmp_path / "val.png")
    ((rows, titles, path, names, legends),) = drawn
    assert (path, names) == (tmp_path / "val.png", ["0", "1"])
    assert titles == ["image", *(f"{name} {what}" for name in tasks for what in ("label", "prediction"))]
    assert [[cell.shape[:2] for cell in row] for row in rows] == [[(2, 3)] * 7, [(4, 2)] * 7]
    assert [name for name, _ in legends["semseg"].entries] == ["oven", "table", "no label"]
    assert legends["semseg"].entries[-1][1] == INVALID_COLOR
    assert (legends["depth"].low, legends["depth"].high) == ("2 m", "3 m")  # of labels
    assert (legends["boundary label"].high, legends["boundary prediction"].high) == ("1 boundary", "0.2 boundary")
    faint, bright = rows[0][6], rows[1][6]
    assert (faint == 128).all()
    assert (bright == 255).all()
    assert len(legends) == 4


def test_sheets_of_labels_have_legends_of_the_classes_that_are_there(tmp_path, drawn):
    tasks = {"semseg": SemsegTask(["wall", "oven", "table"])}
    samples = {
        name: {"image": np.zeros((2, 2, 3), np.uint8), "semseg": np.full((2, 2, 1), value, np.uint8)}
        for name, value in {"a": 2, "b": 0}.items()
    }
    write_labels(samples, tasks, tmp_path / "samples.png")
    ((rows, titles, _, names, legends),) = drawn
    assert (titles, names) == (["image", "semseg"], ["a", "b"])
    assert [name for name, _ in legends["semseg"].entries] == ["wall", "table"]
    assert [tuple(row[1][0, 0]) for row in rows] == [tuple(tasks["semseg"].palette[k]) for k in (2, 0)]
