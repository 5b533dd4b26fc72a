"""Runs, a sweep and a saved model that commit a310456 wrote, used with the code of today."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.commands import run_command
from helpers.miniature import write_miniature

import mtlsi_net

FILES = Path(__file__).parents[1] / "fixtures" / "a310456"
SETTINGS = [
    "experiment=nyud_overfit",
    "data.root=data",
    "data.size=[48,64]",
    "data.scale=1.0",
    "data.batch_size=2",
    "backbone.name=test_convnext",
    "model.width=32",
    "model.head_dim=32",
    "trainer.enable_progress_bar=false",
    "pictures=1",
]
SGD = ["optim.optimizer._target_=torch.optim.SGD", "optim.lr=0.01", "trainer.max_steps=4"]
ANOTHER_MACHINE = 1e-3
"""Relative tolerance for scores of a network trained on another CPU."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = shutil.copytree(FILES, tmp_path_factory.mktemp("old") / "files")
    write_miniature(root / "data")
    (root / "outputs" / "nyud_overfit").mkdir(parents=True)
    (root / "sweep_s").rename(root / "outputs" / "nyud_overfit" / "sweep_s")
    return root


def run(folder, command, *words):
    done = run_command(f"mtlsi_net.{command}", *words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(path):
    return json.loads(path.read_text())


def assert_scores(ours, theirs):
    assert ours.keys() == theirs.keys()
    for task in theirs:
        same = {metric: ours[task][metric] for metric in theirs[task]}  # newer versions have more metrics
        assert same == pytest.approx(theirs[task], rel=ANOTHER_MACHINE, nan_ok=True)


def test_a_finished_run_is_evaluated(folder):
    run(
        folder,
        "evaluate",
        "ckpt=finished/checkpoints/last.ckpt",
        "paths.run_dir=evaluated",
        "trainer.enable_progress_bar=false",
    )
    assert_scores(
        read(folder / "evaluated/metrics.json")["last"]["val"], read(FILES / "finished/metrics.json")["last"]["val"]
    )


def test_a_finished_run_and_the_model_saved_from_it_predict_the_same(folder):
    run(folder, "predict", "ckpt=finished", "input=data/images/0001.png", "out=predicted")
    assert (folder / "predicted").is_dir()
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    of_run, saved = (mtlsi_net.load(folder / name).predict(image) for name in ("finished", "saved"))
    assert set(of_run) == set(saved) == {"semseg", "depth", "normals", "boundary"}
    for name in saved:
        np.testing.assert_array_equal(of_run[name].value, saved[name].value)


def test_an_old_run_and_one_of_today_are_two_seeds_of_one_row(folder):
    run(folder, "train", *SETTINGS, *SGD, "model=mtlsi_paper", "seed=1", "paths.run_dir=second")
    run(folder, "compare", "runs=[finished,second]", "out=compared", "bootstrap=0")
    table = (folder / "compared" / "table.csv").read_text().splitlines()
    rows = [line for line in table[1:] if "nyud_overfit" in line]
    assert len(rows) == 1, table


def test_an_interrupted_run_resumes_as_if_nothing_had_been(folder):
    words = yaml.safe_load((FILES / "unfinished" / "overrides.yaml").read_text())
    run(folder, "train", *words, "ckpt=unfinished")
    ours, theirs = read(folder / "unfinished/metrics.json"), read(FILES / "whole_metrics.json")
    for key in ("last", "ema"):
        assert_scores(ours[key]["val"], theirs[key]["val"])


def test_a_sweep_of_the_default_network_before_is_left_as_it_is_with_what_differs(folder):
    sweep = folder / "outputs" / "nyud_overfit" / "sweep_s"
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*") if path.is_file() and path.name != ".lock"}
    words = [*SETTINGS, *SGD, "~tasks.normals", "~tasks.boundary", "ablation=blocks_011,decoder_convs", "sweep=s"]
    done = run_command("mtlsi_net.train", "-m", *words, cwd=folder)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert said.count("holds a run trained with model.decoder.") >= 2
    assert "give the sweep another name with sweep=NAME" in said
    after = {path: path.stat().st_mtime_ns for path in sweep.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {path: after.get(path) for path in before} == before
