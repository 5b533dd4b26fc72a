"""MTAN's preparations from files to tables, and checkpoints scored on other data and other lists."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.miniature import compose_config, write_miniature
from helpers.mtan_miniature import CLASSES, mtan_overrides, write_mtan

from mtlsi_net.analysis.probe import probe
from mtlsi_net.comparison.compare import compare
from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.build import build_tasks
from mtlsi_net.engine.evaluate import evaluate
from mtlsi_net.engine.train import train
from mtlsi_net.inference.model_card import unit_of

DATA = ("nyuv2_mtan", "cityscapes_mtan")


def read(folder, name="metrics.json"):
    return json.loads((folder / name).read_text())


def scored(folder, *overrides):
    options = ("trainer=cpu", "trainer.enable_progress_bar=false", f"paths.run_dir={folder}")
    evaluate(compose_config(*options, *overrides, name="evaluate"))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return data set -> its files, and runs of five steps by a shared network and by one network a task."""
    folder = tmp_path_factory.mktemp("mtan")
    for data in DATA:
        root = write_mtan(folder / data, data)
        for model in ("shared_encoder", "single_task"):
            overrides = mtan_overrides(root, folder / f"{data}_{model}", data)
            train(compose_config(*overrides, f"model={model}", "pictures=1"))
    return folder


@pytest.mark.parametrize("data", DATA)
def test_five_steps_leave_scores_of_every_task_that_evaluation_repeats(runs, data, tmp_path):
    run = runs / f"{data}_shared_encoder"
    last = read(run)["last"]["val"]
    assert last.keys() == ({"semseg", "depth", "normals"} if data == "nyuv2_mtan" else {"semseg", "depth"})
    assert all(np.isfinite(value) for scores in last.values() for value in scores.values())
    losses = pd.read_csv(run / "metrics.csv")["train/loss"].dropna()
    assert np.isfinite(losses).all()
    assert (run / "pictures" / "val.png").is_file()
    again = read(scored(tmp_path / "again", f"ckpt={run}", "data.eval_batch_size=2"))["last"]["val"]
    for task, scores in last.items():
        assert again[task] == pytest.approx(scores, rel=1e-6)


@pytest.mark.parametrize("data", DATA)
def test_the_constant_predictions_scores_are_those_of_the_files(runs, data):
    """From files to scores: the mean depth of the training files, and the most frequent class, against the test files."""
    root, found = runs / data, read(runs / f"{data}_shared_encoder")["constant"]["val"]

    def arrays(split, name, count):
        return [np.load(root / split / name / f"{number}.npy").astype(np.float64) for number in range(count)]

    train_depth = np.concatenate([own[own > 0] for own in arrays("train", "depth", 4)])
    constant, batch = train_depth.mean(), 2 if data == "nyuv2_mtan" else 8
    depth = [own[own > 0] for own in arrays("val", "depth", 3)]
    errors = [np.abs(np.concatenate(depth[first : first + batch]) - constant) for first in range(0, 3, batch)]
    ratios = [
        e / np.concatenate(depth[first : first + batch]) for e, first in zip(errors, range(0, 3, batch), strict=True)
    ]
    assert found["depth"]["abs_err"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-6)
    assert found["depth"]["abs_err_mtan"] == pytest.approx(np.mean([e.mean() for e in errors]), rel=1e-6)
    assert found["depth"]["abs_rel_mtan"] == pytest.approx(np.mean([r.mean() for r in ratios]), rel=1e-6)
    labels = np.stack(arrays("train", "label", 4))
    most = np.bincount(labels[labels >= 0].astype(int), minlength=CLASSES[data]).argmax()
    images = arrays("val", "label", 3)
    shares = [(own == most).sum() / (own >= 0).sum() for own in images]
    ious = [share / len(np.unique(own[own >= 0])) for share, own in zip(shares, images, strict=True)]
    batches = [slice(first, first + batch) for first in range(0, 3, batch)]
    assert found["semseg"]["mIoU_mtan"] == pytest.approx(np.mean([np.mean(ious[own]) for own in batches]), rel=1e-6)
    assert found["semseg"]["pixel_accuracy_mtan"] == pytest.approx(np.mean([np.mean(shares[own]) for own in batches]))


@pytest.mark.parametrize("data", DATA)
def test_comparisons_have_the_literatures_deltas(runs, data, tmp_path):
    names = [runs / f"{data}_{model}" for model in ("shared_encoder", "single_task")]
    listed = f"runs=[{names[0]},{names[1]}]"
    compare(compose_config(listed, "bootstrap=20", f"out={tmp_path / 'out'}", name="compare"))
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    ours, single = (read(name)["last"]["val"] for name in names)
    rules = read(names[0], "run.json")["metrics"]
    changes = [
        (1 if not higher else -1) * (ours[task][name] / single[task][name] - 1)
        for task, own in rules.items()
        for name, higher in own["delta_m"].items()
    ]
    assert len(changes) == (9 if data == "nyuv2_mtan" else 4)
    assert table["delta_m"].dropna().tolist() == pytest.approx([100 * np.mean(changes)])
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Δm % ↓" in text
    assert "published results are not shown: only 3 of the" in text


def test_another_data_set_is_scored_in_the_tasks_that_match(runs, tmp_path, caplog):
    root = write_miniature(tmp_path / "own", train=4, val=2)
    (root / "gt_sets" / "train.txt").unlink()  # nothing is trained
    (tmp_path / "map.yaml").write_text("semseg: {furniture: cabinet, tv: television}\n")
    caplog.set_level("INFO")
    words = [f"ckpt={runs / 'nyuv2_mtan_shared_encoder'}", "data=nyud", f"data.root={root}", "data.size=[48,64]"]
    folder = scored(tmp_path / "mapped", *words, f"class_map={tmp_path / 'map.yaml'}")
    scores, record = read(folder)["last"]["val"], read(folder, "run.json")
    assert list(scores) == ["semseg", "depth", "normals"]
    assert record["data"]["name"] == "nyud"
    assert record["metrics"]["semseg"]["class_map"]["furniture"] == "cabinet"
    said = record["differs_from_training"]
    assert "boundary: not scored, the checkpoint has no such task" in said
    assert any(text.startswith("image size: 48x64 instead of 36x48") for text in said)
    assert any(text.startswith("semseg: labels are ignored of door, bookshelf, counter") for text in said)
    assert all(f"differs from training: {text}" in caplog.messages for text in said)
    unmapped = scored(tmp_path / "unmapped", *words)
    assert list(read(unmapped)["last"]["val"]) == ["depth", "normals"]
    assert read(unmapped)["last"]["val"]["depth"] == scores["depth"]


def test_the_lists_of_training_and_of_ones_own_test_images_are_scored(runs, tmp_path):
    run = runs / "nyuv2_mtan_shared_encoder"
    own = scored(tmp_path / "train", f"ckpt={run}", "split=train")
    assert read(own)["last"]["train"]["depth"]["rmse"] == pytest.approx(read(run)["last"]["train"]["depth"]["rmse"])
    root = write_miniature(tmp_path / "own", train=4, val=2)
    (root / "gt_sets" / "test.txt").write_text("0001\n0002\n0006\n")
    words = [f"ckpt={run}", "data=folder", f"data.root={root}", "data.size=[48,64]", "tasks.semseg.classes=[wall,oven]"]
    test = scored(tmp_path / "test", *words, "split=test")
    assert read(test)["last"].keys() == {"test"}
    with np.load(test / "per_image.npz") as images:
        assert images["ids"].tolist() == ["0001", "0002", "0006"]
    compare(compose_config(f"runs=[{test}]", "bootstrap=5", f"out={tmp_path / 'out'}", name="compare"))
    assert "own, test images" in (tmp_path / "out" / "table.md").read_text()


REFUSED = {
    "no list": (
        ["split=test"],
        r"split=test: .*/test is missing, which lists the images; the published test images .* split=val",
    ),
    "a map without data": (["class_map=map.yaml"], "class_map says how classes .* give data=..., or leave it out"),
    "a network and a checkpoint": (["model=external"], "holds data, tasks and model; leave out model="),
    "tasks without data": (["task_set=nyud"], "leave out task_set="),
    "nothing in common": (
        ["data=cityscapes_mtan", "data.root={root}", "data.size=[32,64]"],
        "no task of the checkpoint can be scored on this data .semseg: not scored, class lists differ .13 .* 7 in the data",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_requests_that_cannot_be_met_end_in_one_line(runs, tmp_path, case):
    overrides, message = REFUSED[case]
    words = [word.format(root=runs / "cityscapes_mtan") for word in overrides]
    with pytest.raises(UserError, match=message):
        scored(tmp_path / "run", f"ckpt={runs / 'nyuv2_mtan_shared_encoder'}", *words)


def test_the_probe_keeps_to_the_checkpoints_data(runs, tmp_path):
    checkpoint = f"ckpt={runs / 'nyuv2_mtan_shared_encoder'}"
    for words, message in (
        (["data=nyud"], "leave out data=, task_set="),
        (["split=train"], "split=train is a setting of"),
    ):
        with pytest.raises(UserError, match=message):
            probe(compose_config(checkpoint, *words, f"paths.run_dir={tmp_path}", name="probe"))


def test_predictions_of_disparity_are_not_called_metres():
    tasks = build_tasks(compose_config("experiment=cityscapes_mtan"))
    assert {name: unit_of(task) for name, task in tasks.items()} == {
        "semseg": "class of each pixel",
        "depth": "disparity",
    }
    assert unit_of(build_tasks(compose_config("experiment=nyuv2_mtan"))["depth"]) == "metres"


@pytest.mark.slow
@pytest.mark.parametrize("data", DATA)
def test_the_experiments_script_runs_to_its_tables(data, tmp_path):
    """Twelve jobs of five steps each: minutes."""
    root = write_mtan(tmp_path / data, data)
    words = [word for word in mtan_overrides(root, tmp_path, data) if not word.startswith(("experiment", "paths"))]
    script = Path(__file__).parents[2] / "experiments" / "balancing_mtan" / "run.sh"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(script), data, str(root), *words, "seed=0"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "RESULTS": str(tmp_path / "table")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "table" / "table.csv")
    assert len(table) == 11
    assert table["delta_m"].notna().sum() == 10
