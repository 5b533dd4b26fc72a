import json
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import forked_workers
from helpers.miniature import SIZE, compose_config, write_miniature
from helpers.mtan_miniature import SIZES, write_mtan
from helpers.pascal_miniature import CASES, write_pascal_miniature
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.parallel import map_in_processes
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.nyud import NYUDReader
from mtlsi_net.data.official import OFFICIAL, identify
from mtlsi_net.data_tools.findings import Level, check_ids, check_overlap
from mtlsi_net.data_tools.inspect import describe_label, inspect_sample
from mtlsi_net.data_tools.verify import verify

WRITERS = {"nyud": write_miniature, "pascal": write_pascal_miniature}


def run(name, root, folder, *overrides):
    options = ("workers=1", "progress=false", "samples=2", f"paths.run_dir={folder}")
    return verify(compose_config(f"data={name}", f"data.root={root}", *options, *overrides, name="verify_data"))


def texts(result, level):
    return [finding.text for finding in result.findings if finding.level == level]


FEW = {"nyud_train": ["0001", "0002", "0003"], "nyud_val": ["0004", "0005"]}
"""Stand for the official lists."""


def write_few(root):
    """Write the images of ``FEW``, 64x64 pixels without missing depth."""
    write_miniature(root, *map(len, FEW.values()), size=(64, 64))
    for path in (root / "depth").iterdir():
        np.save(path, np.full((64, 64), 2.5, np.float32))
    return root


def test_a_whole_copy_is_fit_for_comparison(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mtlsi_net.data.official.shipped_ids", FEW.__getitem__)
    result = run("nyud", write_few(tmp_path / "data"), tmp_path / "out", "image_size=[64,64]", "data.batch_size=2")
    assert result.level == 0, result.findings
    assert {finding.level for finding in result.findings} <= {Level.NOTE}
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert report["images"] == {"train": 3, "val": 2}
    assert report["sizes"] == {"64x64": 5}
    assert report["exit_code"] == 0
    assert "fit for comparison" in capsys.readouterr().out


def test_sizes_are_the_official_ones_unless_told_otherwise(tmp_path):
    result = run("nyud", write_miniature(tmp_path / "data"), tmp_path / "out")
    assert "image sizes: 6 of 48x64; expected 425x560" in texts(result, Level.DIFFERS)


def test_report_counts_every_pixel(tmp_path):
    root = write_miniature(tmp_path / "data")
    run("nyud", root, tmp_path / "out")
    labels = json.loads((tmp_path / "out" / "verify.json").read_text())["labels"]
    stored = np.stack([np.asarray(Image.open(path)) for path in (root / "segmentation").iterdir()])
    classes, counts = np.unique(stored[stored > 0] - 1, return_counts=True)
    assert labels["semseg"]["histogram"] == {str(k): int(n) for k, n in zip(classes, counts, strict=True)}
    assert labels["semseg"]["invalid"] == (stored == 0).sum()
    assert labels["semseg"]["pixels"] == stored.size
    assert labels["semseg"]["stored"] == {"uint8 L": 6}
    assert labels["depth"]["invalid"] == 6 * 2 * SIZE[0]
    assert (labels["depth"]["low"], labels["depth"]["stored"]) == (1.0, {"float32": 6})
    assert labels["normals"]["invalid"] == 6 * 2 * SIZE[1]


def test_pascal_miniature_with_its_sheet(tmp_path):
    root = write_pascal_miniature(tmp_path / "data")
    result = run("pascal", root, tmp_path / "out", "samples=100")
    assert result.level == Level.DIFFERS
    sheet = Image.open(tmp_path / "out" / "samples.png")
    assert sheet.height > len(CASES) * 100
    assert sheet.width > 6 * 200
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert report["labels"]["human_parts"]["stored"] == {"struct": len(CASES)}
    assert report["sizes"] == {"40x56": 7, "56x40": 1}
    assert "PASCALContext.tar.gz" in report["copy"]


# -- the real miniatures ----------------------------------------------------------------------------------------------


def test_the_real_nyud_miniature_is_called_what_it_is(real_data, tmp_path):
    result = run("nyud", real_data / "NYUDv2_mini", tmp_path)
    assert result.level == Level.DIFFERS
    train, val, depth = texts(result, Level.DIFFERS)
    assert train.startswith("train: 7 images, officially 795;")
    assert "7 ids belong to the official test set" in train
    assert val.startswith("val: 3 images, officially 654;")
    assert "missing" in depth


def test_the_real_pascal_miniature_is_called_what_it_is(real_data, tmp_path):
    result = run("pascal", real_data / "PASCALContext_mini", tmp_path)
    assert result.level == Level.DIFFERS
    normals, train, val = texts(result, Level.DIFFERS)
    assert normals.startswith("normals: no labels")
    assert "~tasks.normals" in normals
    assert "belong to the official test set" in train
    assert "belong to the official training set" in val
    assert "without semseg/pascal-context, normals_distill" in (tmp_path / "verify.json").read_text()


# -- findings ---------------------------------------------------------------------------------------------------------


def test_official_lists_have_no_finding_and_overlap_is_one():
    for name, facts in OFFICIAL.items():
        ids = {split: facts.ids(split) for split in ("train", "val")}
        assert [*check_ids(ids, facts), *check_overlap(ids)] == [], name
        ids["train"] = [*ids["train"], ids["val"][0]]
        assert ids["val"][0] in next(check_ids(ids, facts)).text
        assert next(check_overlap(ids)).level == Level.DIFFERS


def save(file, array):
    def spoil(root):
        path = root / file
        np.save(path, array) if file.endswith("npy") else Image.fromarray(array).save(path)

    return spoil


def truncate(file):
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:-30])


BROKEN = {
    "corrupt image": ("nyud", truncate("images/0002.png"), "images/0002.png"),
    "corrupt png": ("nyud", truncate("edge/0002.png"), "edge/0002.png"),
    "corrupt npy": ("nyud", truncate("depth/0002.npy"), "depth/0002.npy"),
    "corrupt mat": ("pascal", truncate("human_parts/2008_000002.mat"), "human_parts/2008_000002.mat"),
    "wrong dtype": ("nyud", save("depth/0002.npy", np.full(SIZE, "a")), "depth/0002.npy"),
    "class out of range": ("nyud", save("segmentation/0002.png", np.full(SIZE, 41, np.uint8)), "class value 41"),
    "label without its file": ("nyud", lambda root: (root / "normals/0002.png").unlink(), "normals/0002.png"),
    "label larger than image": ("nyud", save("edge/0002.png", np.zeros((96, 128), np.uint8)), "96x128 pixels"),
    "no image": ("nyud", lambda root: (root / "images/0002.png").unlink(), "images/0002.png"),
    "other copy": ("nyud", save("images/0002.png", np.zeros((480, 640, 3), np.uint8)), "480x640 copy"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(case, tmp_path):
    name, spoil, words = BROKEN[case]
    root = WRITERS[name](tmp_path / "data")
    spoil(root)
    result = run(name, root, tmp_path / "out")
    assert result.level == Level.BROKEN
    assert any(words in text for text in texts(result, Level.BROKEN))
    assert result.findings[0].level == Level.BROKEN
    assert (tmp_path / "out" / "samples.png").is_file()  # of the rest


DIFFERING = {
    "far": (save("depth/0002.npy", np.full(SIZE, 1500.0, np.float32)), "depth: reaches 1500.00 m"),
    "overlap": (lambda root: (root / "gt_sets/val.txt").write_text("0001\n"), "are in both train and val (0001)"),
    "unknown": (lambda root: shutil.copy(root / "gt_sets/val.txt", root / "gt_sets/train.txt"), "officially 795"),
    "no task": (lambda root: shutil.rmtree(root / "edge"), "boundary: no labels (edge/0001.png, ...)"),
}


@pytest.mark.parametrize("case", DIFFERING)
def test_what_cannot_be_compared_is_listed(case, tmp_path):
    spoil, words = DIFFERING[case]
    root = write_miniature(tmp_path / "data")
    spoil(root)
    result = run("nyud", root, tmp_path / "out")
    assert result.level == Level.DIFFERS
    assert any(words in text for text in texts(result, Level.DIFFERS))


UNUSABLE = {
    "empty split": (lambda root: (root / "gt_sets/val.txt").write_text(" "), "val.txt lists no images"),
    "repeated id": (lambda root: (root / "gt_sets/val.txt").write_text("0001 0001"), "remove the duplicates"),
    "no images": (lambda root: shutil.rmtree(root / "images"), "the images are missing.*without images"),
    "nothing": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_folders_that_cannot_be_verified_at_all(case, tmp_path):
    spoil, message = UNUSABLE[case]
    root = write_miniature(tmp_path / "data")
    spoil(root)
    with pytest.raises(UserError, match=message):
        run("nyud", root, tmp_path / "out")


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    root = write_miniature(tmp_path / "data")
    listing = Path.iterdir

    def refuse(path):
        if path.name == "normals":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"normals: cannot be listed \(Permission denied\)"):
        run("nyud", root, tmp_path / "out")


def test_grey_boundaries_are_noted():
    label = np.array([[0, 0.5], [1, 1]], np.float32)[..., None]
    facts = describe_label(label, TargetSpec(1, "binary"))
    assert (facts.soft, facts.low, facts.high, facts.invalid) == (1, 0.0, 1.0, 0)


@pytest.mark.parametrize(
    ("files", "sizes", "words"),
    [
        (("images/1.png", "edge/1.png", "normals/1.png"), [(425, 560)], "NYUDv2.tar.gz"),
        (("images/1.jpg", "edge/1.npy", "normals/1.npy"), [(480, 640)], "NYUD_MT.tgz from Google Drive"),
        (("images/1.jpg", "edge/1.png", "segmentation/1.mat"), [], "NYUD_MT.tgz from ETH"),
        (
            ("images/1.png", "edge/1.png", "normals/1.png"),
            [(480, 640)],
            "but with images of 480x640, the size of NYUD_MT",
        ),
        (("images/1.png", "edge/1.npy"), [(425, 560)], "but without normals and with other files in edge"),
    ],
)
def test_circulating_copies_are_told_apart(tmp_path, files, sizes, words):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    assert words in identify(OFFICIAL["nyud"], tmp_path, sizes)


# -- manifest ---------------------------------------------------------------------------------------------------------


def test_the_manifest_is_sha256sums_and_finds_what_changed(tmp_path):
    root = write_miniature(tmp_path / "data")
    run("nyud", root, tmp_path / "one")
    manifest = tmp_path / "one" / "manifest.sha256"
    assert len(manifest.read_text().splitlines()) == 6 * 5 + 2
    if shutil.which("sha256sum"):
        assert subprocess.run(["sha256sum", "--quiet", "-c", manifest], cwd=root).returncode == 0
    again = run("nyud", root, tmp_path / "two", f"manifest={manifest}")
    assert f"equal to {manifest}" in texts(again, Level.NOTE)
    assert (tmp_path / "two" / "manifest.sha256").read_text() == manifest.read_text()

    np.save(root / "depth" / "0003.npy", np.ones(SIZE, np.float32))
    shutil.rmtree(root / "edge")
    changed = run("nyud", root, tmp_path / "three", f"manifest={manifest}")
    (text,) = (text for text in texts(changed, Level.DIFFERS) if "files differ" in text)
    assert "1 changed (depth/0003.npy), 6 missing (edge/0001.png" in text


@pytest.mark.parametrize("content", [None, "no manifest at all\n"])
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "manifest"
    if content:
        path.write_text(content)
    with pytest.raises(UserError, match=r"manifest.*give a manifest written by verify_data"):
        run("nyud", write_miniature(tmp_path / "data"), tmp_path / "out", f"manifest={path}")


def test_processes_find_what_one_finds(tmp_path):
    root = write_miniature(tmp_path / "data", train=10, val=1)
    reader = NYUDReader(root, {"depth": TargetSpec(1, "scalar", fill=0.0, invalid="zero")})
    ids = [*reader.ids("train"), "0099"]
    look = partial(inspect_sample, reader)
    with forked_workers():
        found = list(map_in_processes(look, ids, 2))
    assert found == list(map_in_processes(look, ids, 1))


# -- MTAN's preparations ------------------------------------------------------------------------------------------------

COUNTS = {"nyuv2_mtan": {"train": 795, "val": 654}, "cityscapes_mtan": {"train": 2975, "val": 500}}


def test_as_many_images_are_expected_as_were_published():
    assert {data: OFFICIAL[data].counts for data in COUNTS} == COUNTS
    assert OFFICIAL["cityscapes_mtan"].ids("val")[-1] == "val/499"


@pytest.mark.parametrize("data", COUNTS)
def test_a_whole_mtan_copy_is_fit_for_comparison(data, tmp_path, capsys, monkeypatch):
    few = {"train": 3, "val": 2}
    monkeypatch.setitem(OFFICIAL, data, replace(OFFICIAL[data], counts=few))
    root = write_mtan(tmp_path / "data", data, **few)
    result = run(data, root, tmp_path / "out", f"image_size={list(SIZES[data])}", "data.batch_size=2")
    assert result.level == 0, result.findings
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert report["images"] == few
    assert report["labels"]["depth"]["invalid"] > 0  # missing depth is usual there
    assert "classes" not in str(result.findings)
    assert "in MTAN's preparation" in capsys.readouterr().out


def test_what_differs_from_mtans_copy_and_what_is_broken_is_listed(tmp_path):
    root = write_mtan(tmp_path / "data")
    result = run("nyuv2_mtan", root, tmp_path / "out")
    assert result.level == Level.DIFFERS
    found = texts(result, Level.DIFFERS)
    assert [text.partition(":")[0] for text in found] == ["train", "val", "image sizes"]
    assert "train: 4 images, officially 795; 791 official ids are missing (train/10" in found[0]
    assert found[2] == "image sizes: 7 of 36x48; expected 288x384"
    (root / "train" / "image" / "2.npy").unlink()
    label = np.load(root / "val" / "label" / "1.npy")
    np.save(root / "val" / "label" / "1.npy", label + 0.5)
    np.save(root / "val" / "depth" / "0.npy", np.full((36, 48, 1), 50.0))
    broken = run("nyuv2_mtan", root, tmp_path / "out")
    assert broken.level == Level.BROKEN
    errors = texts(broken, Level.BROKEN)
    assert any("train/image/2.npy: file is missing" in text for text in errors)
    assert any("val/label/1.npy: expected whole numbers of classes, found -0.5" in text for text in errors)
    assert "depth: reaches 50.00 m, but official depths are below 11 m; check the unit" in texts(broken, Level.DIFFERS)


def test_a_task_without_any_files_is_left_out_although_both_splits_count_from_0(tmp_path):
    root = write_mtan(tmp_path / "data")
    for split in ("train", "val"):
        shutil.rmtree(root / split / "depth")
    result = run("nyuv2_mtan", root, tmp_path / "out")
    assert result.level == Level.DIFFERS
    assert "depth: no labels (train/depth/0.npy, ...); train without it: ~tasks.depth" in texts(result, Level.DIFFERS)
