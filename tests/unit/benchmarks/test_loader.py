import csv
import json

import cv2
import numpy as np
import pytest
import torch
from helpers.miniature import compose_config, write_miniature
from helpers.pascal_miniature import write_pascal_miniature

from mtlsi_net.bench import bench
from mtlsi_net.benchmarks.loader import DECODE, EVALUATE, STEP, TRAIN, VALUES, decode_alone
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.nyud import NYUDLayoutReader

STEPS = ["read and check", "RandomScale", "RandomCrop", "Flip", "PhotometricDistortion", "Pad"]


@pytest.fixture(autouse=True)
def own_threads():
    """Leave the other tests the threads that the benchmark takes away."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def run(out, *overrides):
    bench(compose_config(f"out={out}", "images=2", "rounds=3", *overrides, name="bench"))


def test_the_loader_is_measured_and_the_record_written(tmp_path, capsys):
    data = write_miniature(tmp_path / "data")
    run(tmp_path / "out", "what=loader", "data=nyud", f"data.root={data}", "data.size=[64,80]")
    with (tmp_path / "out" / "loader.csv").open() as file:
        rows = {row["what"]: row for row in csv.DictReader(file)}
    assert list(rows) == [DECODE, TRAIN, EVALUATE, *(STEP + name for name in STEPS), VALUES]
    for row in rows.values():
        assert 0 < float(row["low ms"]) <= float(row["ms"]) <= float(row["high ms"])
    record = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert {"command", "commit", "hardware", "versions"} <= set(record)
    assert set(record["percent of the speed of decoding alone (median, quartiles)"]) == {TRAIN, EVALUATE}
    assert (tmp_path / "out" / "loader.png").stat().st_size > 0
    assert "images/s" in capsys.readouterr().out


def test_users_transforms_are_among_the_steps(tmp_path):
    data = write_miniature(tmp_path / "data")
    noise = "data.extra_augmentations=[{_target_: albumentations.GaussNoise}]"
    run(tmp_path / "out", "what=loader", "data=nyud", f"data.root={data}", "data.size=[64,80]", noise)
    assert "step: GaussNoise" in (tmp_path / "out" / "loader.csv").read_text()


def test_decoding_alone_gives_what_the_files_hold(tmp_path):
    specs = {"semseg": TargetSpec(1, "classes", num_classes=40), "depth": TargetSpec(1, "scalar")}
    reader = NYUDLayoutReader(write_miniature(tmp_path), specs)
    image, classes, depth = decode_alone(reader, "0001")
    sample = reader.read("0001")
    np.testing.assert_array_equal(image, sample["image"])
    np.testing.assert_array_equal(classes - np.uint8(1), sample["semseg"][..., 0])
    np.testing.assert_array_equal(depth, sample["depth"][..., 0])


@pytest.mark.parametrize("what", [None, "loadr"])
def test_an_unknown_benchmark_is_refused_by_name(tmp_path, what):
    with pytest.raises(UserError, match=f"what={what} .*'?loader'?"):
        run(tmp_path, *([] if what is None else [f"what={what}"]))


def test_what_cannot_be_compared_is_refused(tmp_path):
    data = write_pascal_miniature(tmp_path / "data")
    with pytest.raises(UserError, match=r"\.mat: what=loader decodes .* use data=nyud"):
        run(tmp_path / "out", "what=loader", "data=pascal", f"data.root={data}", f"paths.output_dir={tmp_path}")
    data = write_miniature(tmp_path / "other")
    with pytest.raises(UserError, match=r"what=loader measures the training pipeline, but data.augment=false"):
        run(tmp_path / "out", "what=loader", "data=nyud", f"data.root={data}", "data.augment=false")
