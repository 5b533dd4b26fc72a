"""The choices of ``debug``, each as a user runs it."""

import json

import pytest
from helpers.commands import run_command
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.run_folders import last_scores

from mtlsi_net.engine.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=5, val=3)


def words(data, folder, choice):
    """Return the overrides of a miniature without those that ``debug`` sets."""
    return [word for word in short_overrides(data, folder) if "max_steps" not in word] + [f"debug={choice}"]


def test_one_batch_goes_through_the_whole_command(data, tmp_path):
    done = run_command(
        "mtlsi_net.train", *words(data, tmp_path / "run", "one_batch"), "name=short", "pictures=1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"last", "best", "constant"} <= metrics.keys()
    assert (
        metrics["last"]["val"].keys() == metrics["last"]["train"].keys() == {"semseg", "depth", "normals", "boundary"}
    )
    for file in ("run.json", "table.md", "metrics.csv", "pictures/val.png", "pictures/train.png"):
        assert (tmp_path / "run" / file).is_file()


def test_overfit_learns_one_batch_by_heart(data, tmp_path):
    first = train(compose_config(*words(data, tmp_path / "a", "overfit"), "trainer.max_steps=1"))
    result = train(compose_config(*words(data, tmp_path / "b", "overfit"), "trainer.max_steps=60"))
    before, after = (last_scores(run.folder.root, "train") for run in (first, result))
    assert after["semseg"]["mIoU_present"] > before["semseg"]["mIoU_present"] + 0.2
    assert after["depth"]["rmse"] < before["depth"]["rmse"] / 2


def test_the_profile_is_in_the_run_folder(data, tmp_path):
    result = train(
        compose_config(*words(data, tmp_path, "profiler"), "trainer.max_steps=2", "trainer.val_check_interval=1")
    )
    profile = (result.folder.root / "fit-profile.txt").read_text()
    assert "run_training_batch" in profile
    assert "LastCheckpoint" in profile
