"""Files and folders whose names have characters of Hydra's grammar, of globs and of shells."""

import json
import os
import shutil

import pytest
import yaml
from helpers.commands import run_command
from helpers.miniature import short_overrides, write_miniature

AWKWARD = "a=1, [b] #2 (ü) 'x' {z} 100%! ~ $c \\d"


def run(command, *words, cwd):
    done = run_command(f"mtlsi_net.{command}", *words, cwd=cwd, environment=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return done


def training(root):
    return [*short_overrides(root / f"data {AWKWARD}", root / f"run {AWKWARD}", steps=1), "data.num_workers=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with data and a finished run, both with awkward names."""
    root = tmp_path_factory.mktemp("paths")
    write_miniature(root / f"data {AWKWARD}")
    run("train", *training(root), cwd=root)
    return root


def test_a_run_is_trained_in_its_folder_and_its_record_names_it(root):
    folder = root / f"run {AWKWARD}"
    assert (folder / "metrics.json").is_file()
    assert yaml.safe_load((folder / "config.yaml").read_text())["paths"]["run_dir"] == str(folder)


def test_an_interrupted_run_is_resumed_by_its_folder(root):
    folder = root / f"run {AWKWARD}"
    other = root / f"half {AWKWARD}"
    shutil.copytree(folder, other)
    (other / "metrics.json").unlink()
    words = [word for word in training(root) if not word.startswith("paths.run_dir")]
    done = run("train", *words, f"ckpt={other}", cwd=root)
    assert "was interrupted; resuming from its last.ckpt" in done.stdout
    assert (other / "metrics.json").is_file()


def test_predictions_of_one_image_and_of_a_folder_are_scored_and_runs_compared(root):
    data, folder = root / f"data {AWKWARD}", root / f"run {AWKWARD}"
    photo = root / f"photo {AWKWARD}.png"
    shutil.copy(data / "images" / "0005.png", photo)
    quiet = ("progress=false", "pictures=false", "sheets=false")
    run("predict", f"ckpt={folder}", f"input={photo.name}", f"out=one {AWKWARD}", *quiet, cwd=root)
    assert (root / f"one {AWKWARD}" / f"{photo.stem}_depth.npy").is_file()
    run("predict", f"ckpt={folder}", f"input={data / 'images'}", f"out=all {AWKWARD}", *quiet, cwd=root)
    assert len(json.loads((root / f"all {AWKWARD}" / "run.json").read_text())["predicted"]) == 6
    run("score", f"pred=all {AWKWARD}", f"data.root={data}", "progress=false", cwd=root)
    run("compare", f"runs=[{folder}]", f"out=table {AWKWARD}", "bootstrap=0", cwd=root)
    assert (root / f"table {AWKWARD}" / "index.html").is_file()


def test_a_run_folder_that_cannot_be_recorded_is_refused_in_one_line(root):
    done = run_command("mtlsi_net.train", "paths.run_dir=x", "data.root=d ${y}", cwd=root, environment=dict(os.environ))
    assert done.returncode == 2
    assert done.stderr.startswith("error: data.root: Interpolation key 'y' not found")
    assert len(done.stderr.splitlines()) == 1
