"""Files given to ``prepare`` that are not the official one, whole: one line each, with what to do."""

import importlib.util

import h5py
import numpy as np
import pytest
from helpers.commands import run_command
from helpers.nyu_mat import write_nyu_mat
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.data_tools.nyu_mat import open_labelled


@pytest.fixture
def file(tmp_path):
    return write_nyu_mat(tmp_path / "nyu_depth_v2_labeled.mat", count=2)


def message(path):
    with pytest.raises(UserError) as caught, open_labelled(path) as labelled:
        list(labelled.images(range(labelled.count)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_truncated_file(file):
    content = file.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 2000):
        file.write_bytes(content[:size])
        assert f"is truncated: {size:,} bytes, the official file has some 2.8 GB; download it again" in message(file)


def test_a_file_whose_data_are_damaged(file):
    with h5py.File(file) as opened:
        places = [opened["depths"].id.get_chunk_info(k) for k in range(2)]
    content = bytearray(file.read_bytes())
    start = places[1].byte_offset
    content[start : start + 200] = b"\xff" * 200
    file.write_bytes(content)
    assert "images 2 to 2 cannot be read" in message(file)
    assert "the file is damaged, download it again; what is prepared so far stays" in message(file)


@pytest.mark.parametrize(("content", "words"), [
    (b"", "it is empty"),
    (b"<!DOCTYPE html><html>", "it is a web page"),
    (b"\x89PNG and so on", "it is no HDF5 file"),
])  # fmt: skip
def test_a_file_of_another_kind(tmp_path, content, words):
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    path.write_bytes(content)
    assert words in message(path)


def test_an_older_matlab_file(tmp_path):
    path = tmp_path / "splits.mat"
    io.savemat(path, {"trainNdxs": np.arange(3)})
    assert "it is a Matlab file of version 7 or older, the official one is of version 7.3" in message(path)


def test_a_missing_file(tmp_path):
    assert "cannot be read (No such file or directory)" in message(tmp_path / "none.mat")


def rewritten(file, name, values):
    with h5py.File(file, "r+") as opened:
        del opened[name]
        if values is not None:
            opened[name] = values
    return message(file)


@pytest.mark.parametrize(("name", "values", "words"), [
    ("rawDepths", None, "it has no rawDepths (found: accelData, depths, images, instances, labels and 1 more)"),
    ("images", np.zeros((2, 3, 64, 48), np.uint8), "images is uint8 of shape (2, 3, 64, 48), expected whole numbers"),
    ("images", np.zeros((2, 480, 640, 3), np.uint8), "expected whole numbers of shape (images, 3, 640, 480)"),
    ("labels", np.full((2, 640, 480), 1.5, np.float32), "labels is float32 of shape (2, 640, 480), expected whole numbers"),
    ("depths", np.zeros((3, 640, 480), np.float32), "its arrays hold 2 images, 3 depths"),
    ("depths", np.full((2, 640, 480), -1, np.float32), "image 1 has depths that are negative or not finite"),
    ("labels", np.full((2, 640, 480), 895, np.uint16), "image 1 has label 895, but there are 894"),
    ("names", np.zeros((1, 894)), "the names of its labels cannot be read"),
])  # fmt: skip
def test_a_file_of_another_structure(file, name, values, words):
    assert words in rewritten(file, name, values)


def test_another_list_of_labels(file):
    with h5py.File(file, "r+") as opened:
        cells = opened["names"][0]
        cells[[10, 20]] = cells[[20, 10]]  # floor and wall change places
        opened["names"][0] = cells
    assert "its list of 894 labels is another one than the official list of 894" in message(file)


def test_without_h5py(file, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "h5py" else find(name, *rest))
    assert "needs h5py; install it with pip install 'mtlsi-net[prepare]'" in message(file)


def test_the_command_ends_with_one_line_and_code_2(file, tmp_path):
    file.write_bytes(file.read_bytes()[:5000])
    done = run_command("mtlsi_net.prepare", "source=nyu_mat", f"file={file}", f"out={tmp_path / 'data'}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is truncated" in done.stderr
    assert not (tmp_path / "data").exists()
