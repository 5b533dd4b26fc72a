"""Situations in which a task's key is not the usual one: two tasks of one class, standard tasks under other names."""

import csv
import json

import numpy as np
import pytest
from helpers.miniature import compose_config, short_overrides, write_miniature
from PIL import Image

from mtlsi_net.comparison.compare import compare
from mtlsi_net.engine.score import score
from mtlsi_net.engine.train import train
from mtlsi_net.inference.predict import predict

FOLDERS = {"semseg": "segmentation", "coarse": "coarse"}
COARSE = "+tasks.coarse={_target_:mtlsi_net.tasks.semseg.SemsegTask,classes:[floor,other]}"


class TwoSets:
    """A run of two class sets of one image, and its predictions."""

    def __init__(self, folder):
        self.data, self.out = write_miniature(folder / "data"), folder / "out"
        (self.data / "coarse").mkdir()
        for path in (self.data / "segmentation").iterdir():
            rows = np.full(np.asarray(Image.open(path)).shape, 1, np.uint8)
            rows[: len(rows) // 3] = 2  # across the boundaries of the other set
            Image.fromarray(rows).save(self.data / "coarse" / path.name)
        options = short_overrides(self.data, folder / "run")
        tasks = ("~tasks.depth", "~tasks.normals", COARSE, "+task_weights.weights.coarse=1")
        self.run = train(compose_config(*options, *tasks, "+data.files={coarse:[coarse,.png]}")).folder
        self.scores = json.loads(self.run.metrics.read_text())["last"]["val"]
        settings = (f"ckpt={self.run.root}", f"input={self.data / 'images'}", f"out={self.out}", "device=cpu")
        predict(compose_config(*settings, "progress=false", name="predict"))


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory):
    return TwoSets(tmp_path_factory.mktemp("two_sets"))


def pixel_accuracy(two_sets, name):
    """Return the share of labelled pixels of the validation images that the predicted files have right."""
    right = labelled = 0
    for sample_id in (two_sets.data / "gt_sets" / "val.txt").read_text().split():
        truth = np.asarray(Image.open(two_sets.data / FOLDERS[name] / f"{sample_id}.png")).astype(int) - 1
        predicted = np.asarray(Image.open(two_sets.out / f"{sample_id}_{name}.png"))
        right += int((predicted == truth).sum())
        labelled += int((truth >= 0).sum())
    return right / labelled


@pytest.mark.parametrize("name", FOLDERS)
def test_two_class_sets_of_one_image_are_each_scored_against_their_labels(two_sets, name):
    assert two_sets.scores[name]["pixel_accuracy"] == pytest.approx(pixel_accuracy(two_sets, name), abs=1e-6)


def test_saved_predictions_of_two_class_sets_score_as_in_training(two_sets, tmp_path):
    found = score(
        compose_config(
            *("data=folder", "task_set=folder", f"data.root={two_sets.data}", "data.size=[48,64]"),
            *(
                f"pred={two_sets.out}",
                f"paths.run_dir={tmp_path}",
                "progress=false",
                "+data.files.coarse=[coarse,.png]",
            ),
            *("~tasks.depth", "~tasks.normals", "tasks.semseg.classes=nyud40", COARSE),
            name="score",
        )
    )
    for name in FOLDERS:
        assert found.scores[name]["mIoU"] == pytest.approx(two_sets.scores[name]["mIoU"], abs=1e-6)


def test_files_and_tables_name_tasks_by_their_keys(two_sets, tmp_path):
    with two_sets.run.classes.open() as file:
        assert {row["task"] for row in csv.DictReader(file)} == set(FOLDERS)
    compare(compose_config(f"runs={two_sets.run.root}", f"paths.run_dir={tmp_path}", name="compare"))
    table = (tmp_path / "table.md").read_text()
    assert "semseg mIoU" in table
    assert "coarse mIoU" in table


def test_boundaries_under_another_name_are_scored(tmp_path):
    data = write_miniature(tmp_path / "data")
    cfg = compose_config(
        *short_overrides(data, tmp_path / "run", steps=1),
        *("~tasks.boundary", "~tasks.normals", "~tasks.semseg", "+data.files={outlines:[edge,.png]}"),
        "+tasks.outlines={_target_:mtlsi_net.tasks.boundary.BoundaryTask,preset:nyud}",
        "+task_weights.weights.outlines=50",
    )
    scores = json.loads(train(cfg).folder.metrics.read_text())["last"]["val"]
    assert 0 <= scores["outlines"]["odsF_partial"] <= 1
