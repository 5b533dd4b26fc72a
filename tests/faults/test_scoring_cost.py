"""Situations in which scores took longer than training, or were named or filed misleadingly."""

import json
import shutil
from collections import Counter

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.evaluate import evaluate
from mtlsi_net.engine.train import train
from mtlsi_net.lit.module import MultiTaskModule

QUIET = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "data.num_workers=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=4, val=3)


@pytest.fixture
def scored(monkeypatch):
    """Count the images that are scored, by stage."""
    images, step = Counter(), MultiTaskModule.validation_step

    def counting(self, batch, batch_idx):
        images[self.stage] += len(batch["id"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "validation_step", counting)
    return images


def run(data, folder, *overrides, steps=2):
    tasks = ("~tasks.normals", "~tasks.depth", "trainer.val_check_interval=1")
    return train(compose_config(*short_overrides(data, folder, steps), *tasks, *overrides)).folder


def scores_of(folder, weights="last"):
    return json.loads(folder.metrics.read_text())[weights]["val"]


def best_is_scored(folder):
    """Return the images that the closing scores of the best weights take if only a part of them was scored before."""
    return 0 if json.loads(folder.metrics.read_text())["best"]["step"] == 2 else 3


def evaluated(checkpoint, folder):
    cfg = compose_config(f"ckpt={checkpoint}", f"paths.run_dir={folder}", *QUIET, name="evaluate")
    return json.loads(evaluate(cfg).folder.metrics.read_text())["last"]["val"]


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-6), name


@pytest.mark.parametrize("limit", ["null", "3"], ids=["no limit", "as many as there are"])
def test_weights_that_the_last_validation_scored_are_not_scored_again(data, tmp_path, scored, limit):
    folder = run(data, tmp_path / "run", f"data.max_val_images={limit}")
    assert scored == {"val": 2 * 3, "train": 4}  # two validations, and the training images once
    assert_equal(scores_of(folder), evaluated(folder.last, tmp_path / "e"))


def test_best_weights_that_a_validation_scored_are_not_scored_again(data, tmp_path, scored, monkeypatch):
    gains = iter([0.5, 0.1])  # the first validation is the best one
    real = MultiTaskModule.skill
    monkeypatch.setattr(
        MultiTaskModule,
        "skill",
        lambda self, stage, estimate=False: (
            next(gains, 0.1) if estimate and stage == "val" else real(self, stage, estimate)
        ),
    )
    folder = run(data, tmp_path / "run")
    assert scored["val"] == 2 * 3
    monkeypatch.undo()
    assert json.loads(folder.metrics.read_text())["best"]["step"] == 1
    (best,) = folder.checkpoints.glob("best*.ckpt")
    assert torch.load(best, weights_only=True)["global_step"] == 1
    assert_equal(scores_of(folder, "best"), evaluated(best, tmp_path / "e"))


def test_estimates_are_completed_at_the_last_validation(data, tmp_path, scored):
    folder = run(data, tmp_path / "run", "data.estimate_images=1")
    assert scored["val"] == 2 * 3 + best_is_scored(folder)
    assert_equal(scores_of(folder), evaluated(folder.last, tmp_path / "e"))


def test_validations_on_a_part_of_the_images_leave_the_closing_scores_complete(data, tmp_path, scored):
    folder = run(data, tmp_path / "run", "data.max_val_images=1")
    assert scored["val"] == 2 * 1 + 3 + best_is_scored(folder)
    assert_equal(scores_of(folder), evaluated(folder.last, tmp_path / "e"))
    constant = json.loads(folder.metrics.read_text())["constant"]["val"]
    whole = run(data, tmp_path / "whole")
    assert_equal(constant, json.loads(whole.metrics.read_text())["constant"]["val"])


def test_training_between_validations_scores_the_last_weights(data, tmp_path):
    folder = run(data, tmp_path / "run", "trainer.val_check_interval=2", steps=3)
    assert_equal(scores_of(folder), evaluated(folder.last, tmp_path / "e"))


def test_without_an_interval_nothing_is_scored_before_the_end(data, tmp_path, scored):
    folder = run(data, tmp_path / "run", "trainer.val_check_interval=null", steps=3)  # an epoch ends on the way
    assert scored == {"val": 3, "train": 4}
    assert_equal(scores_of(folder), evaluated(folder.last, tmp_path / "e"))


def test_only_a_published_test_set_is_called_one(data, tmp_path):
    own = run(data, tmp_path / "own", "data.test_split=false", steps=1)
    assert "best on the validation set" in own.table.read_text()
    assert (own.checkpoints / "best.ckpt").is_file()
    published = run(data, tmp_path / "published", steps=1)
    assert "best on the test set" in published.table.read_text()
    assert (published.checkpoints / "best_on_test.ckpt").is_file()
    assert not compose_config("data=folder", "data.root=x", "data.size=[8,8]", "task_set=rooms").data.test_split
    assert compose_config("data=pascal").data.test_split


def test_evaluate_takes_a_run_folder_and_files_its_scores_beside_no_run(trained, tmp_path):
    folder = RunFolder(shutil.copytree(trained.run.root, tmp_path / "outputs" / "nyud_overfit" / "first"))
    cfg = compose_config(f"ckpt={folder.root}", f"paths.output_dir={tmp_path / 'outputs'}", *QUIET, name="evaluate")
    found = evaluate(cfg).folder
    assert found.root.parent == tmp_path / "outputs" / "evaluate"
    assert_equal(json.loads(found.metrics.read_text())["last"]["val"], scores_of(folder))
