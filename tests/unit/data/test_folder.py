"""One's own data: images of any suffix."""

from pathlib import Path

import numpy as np
import pytest
from helpers.miniature import write_miniature
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.folder import FolderReader
from mtlsi_net.data.transforms import IMAGE

SPECS = {"depth": TargetSpec(1, "scalar", fill=0.0, invalid="zero")}


def rename(root: Path, sample_id: str, name: str) -> None:
    path = root / "images" / f"{sample_id}.png"
    image = Image.open(path)
    image.load()
    path.unlink()
    (root / "images" / name).parent.mkdir(exist_ok=True)
    image.save(root / "images" / name)


def test_images_of_several_suffixes_are_found_by_their_ids(tmp_path):
    root = write_miniature(tmp_path, train=4, val=1)
    names = {"0001": "0001.jpg", "0002": "0002.JPEG", "0003": "0003.webp", "0004": "0004.png"}
    for sample_id, name in names.items():
        rename(root, sample_id, name)
    (root / "images" / "0004.txt").write_text("no image")
    reader = FolderReader(root, SPECS)
    assert {i: reader.files(IMAGE, i)[0].name for i in reader.ids("train")} == names
    assert not reader.missing(IMAGE, reader.ids("train"))
    assert all(reader.read(i)[IMAGE].shape == (48, 64, 3) for i in names)


def test_ids_may_name_subfolders_and_contain_dots(tmp_path):
    root = write_miniature(tmp_path, train=2, val=1)
    rename(root, "0001", "flat/a.b.jpg")
    rename(root, "0002", "house/a.b.png")
    (root / "gt_sets" / "train.txt").write_text("flat/a.b.jpg\nhouse/a.b\n")
    reader = FolderReader(root, {})
    assert reader.ids("train") == ["flat/a.b", "house/a.b"]
    assert [reader.files(IMAGE, i)[0].suffix for i in reader.ids("train")] == [".jpg", ".png"]


def test_two_images_of_one_id_are_refused_unless_a_suffix_is_chosen(tmp_path):
    root = write_miniature(tmp_path, train=1, val=1)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / "images" / "0001.jpg")
    with pytest.raises(UserError, match=r"images: 0001.jpg and 0001.png have the same id; .*=\[images,.jpg\]"):
        FolderReader(root, SPECS).check_files(["0001"])
    for suffix, mean in ((".jpg", 0), (".png", None)):
        chosen = FolderReader(root, SPECS, files={IMAGE: ["images", suffix]})
        assert chosen.files(IMAGE, "0001") == [root / "images" / f"0001{suffix}"]
        assert mean is None or chosen.read("0001")[IMAGE].mean() == mean


def test_a_missing_image_is_named_as_in_the_layout_and_found_once_it_is_there(tmp_path):
    root = write_miniature(tmp_path / "data", train=1, val=1)
    away = (root / "images").rename(tmp_path / "away")
    reader = FolderReader(root, SPECS)
    with pytest.raises(UserError, match=r"image: 1, images/0001.png\); data.root is a folder with images/"):
        reader.check_files(["0001"])
    away.rename(root / "images")  # a drive that is back
    rename(root, "0001", "0001.tif")
    reader.check_files(["0001"])
