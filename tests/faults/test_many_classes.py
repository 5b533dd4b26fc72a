"""Label sets of more than 255 classes: 16-bit files, in which 255 is a class and 65535 is none."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.commands import run_command
from helpers.miniature import compose_config
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.decoding import batch_values, label_values
from mtlsi_net.data.encoding import Encoding, read_palette
from mtlsi_net.data.files import read_target
from mtlsi_net.data.label_checks import check_plausible, describe_label
from mtlsi_net.data.transforms import IMAGE, VALID, crop, flip, pad, scale, varied
from mtlsi_net.engine.build import build_data, build_tasks
from mtlsi_net.engine.saved_predictions import read_prediction

SPEC = TargetSpec(1, "classes", num_classes=1000)
FROM_ZERO = Encoding(zero_based=True)
CLASSES = np.array([[0, 254, 255, 256], [998, 999, -1, -1]])
"""With -1 for unlabelled pixels."""


def written(path, values):
    np.save(path, values) if path.suffix == ".npy" else Image.fromarray(values).save(path)
    return path


def planes(label):
    return label_values(label, SPEC).numpy()[0]


EXPECTED = np.where(CLASSES < 0, 65535, CLASSES)


@pytest.mark.parametrize(("name", "stored", "encoding"), [
    ("one_based.png", (CLASSES + 1).astype(np.uint16), Encoding()),
    ("one_based.npy", CLASSES + 1, Encoding()),
    ("zero_based.png", EXPECTED.astype(np.uint16), FROM_ZERO),
    ("zero_based.npy", CLASSES.astype(np.int16), FROM_ZERO),
    ("zero_based_floats.npy", CLASSES.astype(np.float64), FROM_ZERO),
])  # fmt: skip
def test_files_of_16_bits_keep_class_255(tmp_path, name, stored, encoding):
    assert np.array_equal(planes(read_target(written(tmp_path / name, stored), SPEC, encoding)), EXPECTED)


def test_bytes_serve_where_no_class_beyond_them_occurs(tmp_path):
    few = written(tmp_path / "a.png", np.array([[0, 1, 254, 255]], np.uint8))
    assert planes(read_target(few, SPEC)).tolist() == [[65535, 0, 253, 254]]
    assert planes(read_target(few, SPEC, FROM_ZERO)).tolist() == [[0, 1, 254, 255]], "255 is a class here"


@pytest.mark.parametrize("count", [254, 255])
def test_255_is_no_class_of_up_to_255(tmp_path, count):
    spec = TargetSpec(1, "classes", num_classes=count)
    file = written(tmp_path / "a.png", np.array([[0, count - 1, 255, 65535]], np.uint16))
    label = read_target(file, spec, FROM_ZERO)
    assert label.dtype == np.uint8
    assert label[..., 0].tolist() == [[0, count - 1, 255, 255]]
    file = written(tmp_path / "b.png", np.array([[0, 1, count]], np.uint16))
    assert read_target(file, spec)[..., 0].tolist() == [[255, 0, count - 1]]


@pytest.mark.parametrize(("values", "encoding", "words"), [
    ([[1001, 3]], Encoding(), r"class value 1001 found, but stored values go from 0 \(unlabelled\) to 1000"),
    ([[1000, 3]], FROM_ZERO, r"class value 1000 found, but stored values go from 0 to 999, and 65535 \(void\)"),
    ([[65535, 3]], Encoding(), r"if classes count from 0 with 65535 as void, set data.zero_based=true"),
])  # fmt: skip
def test_labels_beyond_the_class_list_are_named(tmp_path, values, encoding, words):
    file = written(tmp_path / "a.png", np.array(values, np.uint16))
    with pytest.raises(UserError, match=words) as caught:
        read_target(file, SPEC, encoding)
    assert "\n" not in str(caught.value)


def test_floats_that_are_no_integers_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected whole numbers of classes, found 0.25 \(float64, 8 such pixels\)"):
        read_target(written(tmp_path / "a.npy", CLASSES + 0.25), SPEC)


def test_a_palette_of_300_colours(tmp_path):
    colors = [(k % 256, k // 256, 7) for k in range(300)]
    lines = [f"{r} {g} {b} c{k}" for k, (r, g, b) in enumerate(colors)]
    (tmp_path / "palette.txt").write_text("\n".join(["1 2 3 void", *lines]))
    encoding = Encoding(palette=read_palette(tmp_path / "palette.txt"))
    mask = np.array([[colors[0], colors[255], colors[299], (1, 2, 3)]], np.uint8)
    label = read_target(written(tmp_path / "a.png", mask), TargetSpec(1, "classes", num_classes=300), encoding)
    assert label[..., 0].tolist() == [[0, 255, 299, 65535]]
    with pytest.raises(UserError, match="300 colours are given for 299 classes"):
        read_target(tmp_path / "a.png", TargetSpec(1, "classes", num_classes=299), encoding)


def test_transforms_keep_wide_classes():
    label = np.where(CLASSES < 0, 65535, CLASSES).astype(np.float32)[..., None]
    sample = {IMAGE: np.zeros((2, 4, 3), np.uint8), "semseg": label}
    specs = {"semseg": SPEC}
    assert np.array_equal(flip(sample, specs)["semseg"], label[:, ::-1])
    assert np.array_equal(scale(sample, 2.0, specs)["semseg"], label.repeat(2, 0).repeat(2, 1))
    cut = crop(sample, 0, 1, 2, 3)
    padded = pad(cut, (4, 6), specs)
    assert padded["semseg"].shape == (1, 4, 6)
    outside = padded["semseg"][0][~padded[VALID][0]]
    assert (outside == 65535).all(), "not class 255"
    assert sorted(padded["semseg"][0][padded[VALID][0]].tolist()) == sorted(label[:, 1:].ravel().tolist())


@pytest.mark.parametrize(("values", "expected"), [
    ([255, 255, 255, 700], False),  # 255 is a class: 75 %
    ([255, 255, 700, 700], True),
    ([65535, 65535, 65535, 255], False),
    ([65535, 65535, 999, 255], True),
])  # fmt: skip
def test_the_crop_rule_counts_wide_classes(values, expected):
    assert varied(np.array(values, np.float32).reshape(2, 2, 1), SPEC) is expected


def test_the_crop_rule_does_not_count_ignored_classes():
    values = np.array([0, 0, 1, 2], np.uint8).reshape(2, 2, 1)
    ignored = TargetSpec(1, "classes", num_classes=40, ignored=(1, 2))
    assert (varied(values, TargetSpec(1, "classes", num_classes=40)), varied(values, ignored)) == (True, False)


def test_saved_predictions_of_16_bits_are_read(tmp_path):
    file = written(tmp_path / "a.png", EXPECTED.astype(np.uint16))
    read = read_prediction(file, SPEC)[..., 0]
    assert np.array_equal(np.isnan(read), CLASSES < 0)
    assert np.array_equal(read[CLASSES >= 0], CLASSES[CLASSES >= 0])


COUNT = 300


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a data set of 300 classes in which class 255 is a quarter of every image."""
    root = tmp_path_factory.mktemp("many") / "data"
    rng = np.random.default_rng(0)
    for folder in ("images", "segmentation", "gt_sets"):
        (root / folder).mkdir(parents=True)
    for name in "1234":
        label = rng.integers(1, COUNT + 1, (6, 8)).repeat(8, 0).repeat(8, 1).astype(np.uint16)
        label[:24, :32], label[40:, 40:] = 256, 0
        Image.fromarray(label).save(root / "segmentation" / f"{name}.png")
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(root / "images" / f"{name}.png")
    (root / "gt_sets" / "train.txt").write_text("1\n2\n")
    (root / "gt_sets" / "val.txt").write_text("3\n4\n")
    return root


def words(data):
    classes = ",".join(f"c{k}" for k in range(COUNT))
    tasks = ("~tasks.depth", "~tasks.normals", "~tasks.boundary", f"tasks.semseg.classes=[{classes}]")
    return ("data=folder", f"data.root={data}", "data.size=[48,64]", *tasks)


def test_a_batch_knows_padding_and_missing_labels(data):
    cfg = compose_config(
        *words(data), "data.size=[56,72]", "data.num_workers=0", "data.batch_size=2", "data.label_share={semseg: 0.5}"
    )
    module = build_data(cfg, build_tasks(cfg))
    target = batch_values(next(iter(module.train_dataloader())), module.targets)["targets"]["semseg"]
    assert target.dtype == torch.float32
    empty = (target == 65535).flatten(1).all(1)
    assert empty.sum() == 1, "one of the two images has its label hidden"
    values = set(target[~empty].unique().tolist())
    assert 255 in values
    assert values <= {*range(COUNT), 65535}


def test_a_run_is_trained_predicted_and_scored(data, tmp_path):
    """Class 255 counts in every step: labels, scores, confusion matrix, saved predictions."""
    run, options = tmp_path / "run", ("trainer.enable_progress_bar=false", "model.width=32", "model.head_dim=32")
    few = ("data.batch_size=2", "data.num_workers=0", "trainer.max_steps=2", "pictures=1")
    done = run_command("mtlsi_net.train", *words(data), *options, *few, f"paths.run_dir={run}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (run / "confusion" / "val_semseg.csv").open() as file:
        counts = np.array([row[1:] for row in list(csv.reader(file))[1:]], np.int64)
    labels = np.stack([np.asarray(Image.open(data / "segmentation" / f"{k}.png")) for k in (3, 4)])
    assert counts.shape == (COUNT, COUNT)
    assert counts.sum(1).tolist() == np.bincount(labels.ravel(), minlength=COUNT + 1)[1:].tolist()
    assert counts[255].sum() >= 2 * 24 * 32
    with Image.open(run / "confusion" / "val_semseg.png") as picture:
        assert picture.width > 300
    predict = (
        "ckpt=run",
        f"input={data / 'images'}",
        "out=predictions",
        "progress=false",
        "device=cpu",
        "sheets=false",
    )
    done = run_command("mtlsi_net.predict", *predict, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    predicted = np.asarray(Image.open(tmp_path / "predictions" / "3_semseg.png"))
    assert predicted.dtype == np.uint16
    scored = ("pred=predictions", *words(data), "progress=false", "paths.run_dir=scored")
    done = run_command("mtlsi_net.score", *scored, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, saved = (
        json.loads((tmp_path / name / "metrics.json").read_text())["last"]["val"] for name in ("run", "scored")
    )
    assert saved["semseg"] == pytest.approx(ours["semseg"])
    both = np.stack([np.asarray(Image.open(tmp_path / "predictions" / f"{k}_semseg.png")) for k in (3, 4)])
    assert saved["semseg"]["pixel_accuracy"] == pytest.approx((both[labels > 0] == labels[labels > 0] - 1).mean())


def test_ignored_classes_at_the_ends_of_the_list_are_not_missed():
    label = np.array([[255, 1, 2, 255]], np.uint8)[..., None]
    names = {"semseg": ("void", "a", "b", "other")}
    for ignored, said in (((0, 3), 0), ((), 1), ((0,), 1)):
        spec = TargetSpec(1, "classes", num_classes=4, ignored=ignored)
        facts = {"semseg": describe_label(label, spec)}
        assert len(list(check_plausible(facts, {"semseg": spec}, names, {}))) == said
