"""Verification and training, which refuse the same data for the same reasons."""

import shutil

import numpy as np
import pytest
from helpers.miniature import compose_config, write_miniature
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.data_tools.findings import Level
from mtlsi_net.data_tools.verify import verify
from mtlsi_net.engine.build import build_data, build_tasks, fit_priors

COMMON = ("data.size=[48,64]", "tasks.semseg.classes=[a,b,c,d,e]")
SIZE = (48, 64)


def checked(root, out, *overrides):
    options = (f"data.root={root}", *COMMON, "workers=1", "progress=false", f"paths.run_dir={out}")
    return verify(compose_config("data=folder", *options, *overrides, name="verify_data"))


def prepare(root, *overrides):
    """Do what training does before its first step."""
    cfg = compose_config("data=folder", f"data.root={root}", *COMMON, "data.num_workers=0", *overrides)
    tasks = build_tasks(cfg)
    data = build_data(cfg, tasks)
    fit_priors(data, tasks)
    data.train_dataloader()


EMPTY = {
    "semseg": ("segmentation", ".png", np.zeros(SIZE, np.uint8)),
    "depth": ("depth", ".npy", np.zeros(SIZE, np.float32)),
    "normals": ("normals", ".png", np.full((*SIZE, 3), 127, np.uint8)),
}


@pytest.mark.parametrize("task", EMPTY)
@pytest.mark.parametrize("splits", [("train", "val"), ("train",)])
def test_training_labels_that_are_invalid_throughout(tmp_path, task, splits):
    root = write_miniature(tmp_path / "data")
    place, suffix, values = EMPTY[task]
    for split in splits:
        for sample_id in (root / "gt_sets" / f"{split}.txt").read_text().split():
            path = root / place / f"{sample_id}{suffix}"
            np.save(path, values) if suffix == ".npy" else Image.fromarray(values).save(path)
    words = f"task '{task}': the training labels contain no valid pixel (4 files)"
    with pytest.raises(UserError) as caught:
        prepare(root)
    assert words in str(caught.value)
    result = checked(root, tmp_path / "out")
    assert result.level == Level.BROKEN
    assert result.findings[0].text.startswith(words)


def test_validation_labels_that_are_invalid_throughout_are_said(tmp_path):
    root = write_miniature(tmp_path / "data")
    for sample_id in (root / "gt_sets" / "val.txt").read_text().split():
        np.save(root / "depth" / f"{sample_id}.npy", np.zeros(SIZE, np.float32))
    prepare(root)
    result = checked(root, tmp_path / "out")
    assert "depth: no valid pixel in the labels of val" in [finding.text for finding in result.findings]


def test_fewer_images_than_a_batch(tmp_path):
    root = write_miniature(tmp_path / "data", train=3)
    words = "3 training images cannot fill one batch; set data.batch_size to at most that"
    with pytest.raises(UserError, match=words):
        prepare(root)
    assert any(words in finding.text for finding in checked(root, tmp_path / "out").findings)
    prepare(root, "data.batch_size=2")
    assert not any(words in f.text for f in checked(root, tmp_path / "out", "data.batch_size=2").findings)


def test_labels_missing_for_some_ids_in_subfolders_of_one_name(tmp_path):
    root = write_miniature(tmp_path / "data")
    for folder in ("images", "segmentation", "depth", "normals", "edge"):
        for path in list((root / folder).iterdir()):
            for part in ("a", "b"):
                (root / folder / part).mkdir(exist_ok=True)
                shutil.copy(path, root / folder / part / path.name)
            path.unlink()
    ids = [f"{part}/{number:04d}" for part in ("a", "b") for number in range(1, 7)]
    (root / "gt_sets" / "train.txt").write_text("\n".join(ids[:8]))
    (root / "gt_sets" / "val.txt").write_text("\n".join(ids[8:]))
    for path in (root / "edge" / "b").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"boundary: 6, edge/b/0001.png"):
        prepare(root)
    result = checked(root, tmp_path / "out")
    assert result.level == Level.BROKEN
    assert sum("edge/b/" in finding.text for finding in result.findings) == 6
