"""Loops over many files, which say at the end what they skipped and why."""

import logging
import shutil

import numpy as np
import pytest
from helpers.miniature import compose_config
from PIL import Image

from mtlsi_net.engine.score import score
from mtlsi_net.inference.predict import predict


@pytest.fixture
def nested(trained, tmp_path):
    """Return a folder of images and one of labels, with two images called 0001 in subfolders a and b."""
    data = trained.data
    for name, source in (("a", "0001"), ("b", "0002")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(data / "images" / f"{source}.png", tmp_path / "photos" / name / "0001.png")
        for folder, suffix in (("segmentation", ".png"), ("depth", ".npy"), ("edge", ".png")):
            (tmp_path / "labels" / folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(data / folder / f"{source}{suffix}", tmp_path / "labels" / folder / name / f"0001{suffix}")
    return tmp_path


def predicted(trained, caplog, source, out, *overrides):
    options = (f"ckpt={trained.run.root}", f"input={source}", f"out={out}", "progress=false", "device=cpu")
    with caplog.at_level(logging.WARNING):
        predict(compose_config(*options, "pictures=false", "sheets=false", *overrides, name="predict"))
    return caplog.text


def test_labels_in_subfolders_give_error_maps(trained, nested, caplog):
    said = predicted(trained, caplog, nested / "photos", nested / "out", f"labels={nested / 'labels'}")
    assert "no error map" not in said
    assert sorted(path.name for path in (nested / "out" / "errors").iterdir()) == ["a_0001.png", "b_0001.png"]


def test_images_without_labels_are_counted(trained, nested, caplog):
    for folder in (nested / "labels").iterdir():
        shutil.rmtree(folder / "b")
    said = predicted(trained, caplog, nested / "photos", nested / "out", f"labels={nested / 'labels'}")
    assert "no error map drawn for 1 of 2 images" in said
    assert "b/0001.png: no label (looked for" in said
    assert [path.name for path in (nested / "out" / "errors").iterdir()] == ["a_0001.png"]


def test_labels_of_other_names_are_said_once(trained, nested, caplog):
    for path in sorted((nested / "labels").rglob("0001*")):
        path.rename(path.with_stem("other"))
    said = predicted(trained, caplog, nested / "photos", nested / "out", f"labels={nested / 'labels'}")
    assert said.count("no error map drawn for 2 of 2 images") == 1


def test_labels_in_another_encoding(trained, nested, caplog):
    for path in list((nested / "labels" / "depth").rglob("*.npy")):
        Image.fromarray((np.load(path) * 1000).astype(np.uint16)).save(path.with_suffix(".png"))
        path.unlink()
    encoding = ("label_encoding.depth_scale=0.001", "+label_encoding.files.depth=[depth,.png]")
    said = predicted(trained, caplog, nested / "photos", nested / "out", f"labels={nested / 'labels'}", *encoding)
    assert "no error map" not in said
    assert len(list((nested / "out" / "errors").iterdir())) == 2


def test_scores_say_at_the_end_what_was_not_read(trained, tmp_path, caplog):
    predicted(trained, caplog, trained.data / "images", tmp_path / "pred")
    (tmp_path / "pred" / "0006_depth.npy").unlink()
    (tmp_path / "pred" / "0006_depth.png").unlink()
    for path in (tmp_path / "pred").glob("*_boundary.png"):
        path.unlink()
    options = (f"data.root={trained.data}", f"pred={tmp_path / 'pred'}", f"paths.run_dir={tmp_path / 'out'}")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        score(compose_config(*options, "allow_missing=true", "workers=1", "progress=false", name="score"))
    said = [record.getMessage() for record in caplog.records]
    assert any("no boundary (looked for" in text for text in said)
    assert "depth: scored on 1 of 2 images; without 0006" in said
    unread = "semseg: 4 files belong to none of the scored images and were not read (0001_semseg.png"
    assert any(text.startswith(unread) for text in said)
