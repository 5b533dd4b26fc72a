import numpy as np
import pytest
from PIL import Image
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.encoding import Encoding
from mtlsi_net.engine.saved_predictions import find_predictions, read_prediction

CLASSES = TargetSpec(channels=1, kind="classes", num_classes=4)
BINARY = TargetSpec(channels=1, kind="binary")
DEPTH = TargetSpec(channels=1, kind="scalar")
NORMALS = TargetSpec(channels=3, kind="vector")
METRES = np.linspace(-1, 9, 12, dtype=np.float32).reshape(3, 4)
IDS = ["0001", "0002"]
ONE_BASED = Encoding(prefix="")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def png(path, array):
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("task", "spec", "names"),
    [
        ("semseg", CLASSES, ["semseg/0001.png", "segmentation/0001.png", "0001_semseg.png"]),
        ("human_parts", CLASSES, ["human_parts/0001.png", "parts/0001.png", "0001_human_parts.png"]),
        ("saliency", BINARY, ["saliency/0001.png", "sal/0001.png", "0001_saliency.png"]),
        ("boundary", BINARY, ["boundary/0001.png", "edge/0001.png", "0001_boundary.png"]),
        ("normals", NORMALS, ["normals/0001.png", "normals/0001.npy", "0001_normals.npy", "0001_normals.png"]),
        ("depth", DEPTH, ["depth/0001.npy", "depth/0001.mat", "0001_depth.npy"]),
        ("shadow", BINARY, ["shadow/0001.png", "0001_shadow.png"]),
    ],
)
def test_the_usual_places_are_found(tmp_path, task, spec, names):
    for number, name in enumerate(names):
        root = tmp_path / str(number)
        touch(root, name)
        found = find_predictions(root, task, spec, IDS)
        assert found.path("0001") == root / name
        assert found.path("0002") is None


def test_floats_come_before_eight_bits(tmp_path):
    touch(tmp_path, "normals/0001.png", "normals/0001.npy", "normals/0002.png")
    found = find_predictions(tmp_path, "normals", NORMALS, IDS)
    assert [found.path(sample_id).name for sample_id in IDS] == ["0001.npy", "0002.png"]


def test_parts_are_not_taken_for_human_parts_twice(tmp_path):
    touch(tmp_path, "0001_human_parts.png")
    assert find_predictions(tmp_path, "human_parts", CLASSES, IDS).ending == "_human_parts"


def test_nothing_is_found_where_nothing_is(tmp_path):
    touch(tmp_path, "0001_depth.jpg", "0009_depth.npy")  # another kind of file, another image
    assert find_predictions(tmp_path, "depth", DEPTH, IDS) is None


def test_two_places_are_refused(tmp_path):
    touch(tmp_path, "edge/0001.png", "0002_boundary.png")
    with pytest.raises(
        UserError, match=r"predictions of boundary twice \(.*edge/<id>.png.* and .*<id>_boundary.png.*\)"
    ):
        find_predictions(tmp_path, "boundary", BINARY, IDS)


@pytest.mark.parametrize(("name", "ids"), [("1", ["kitchen/1", "bath/1"]), ("a_b_1", ["a/b/1", "a_b/1"])])
def test_a_file_that_may_be_of_several_images_is_refused(tmp_path, name, ids):
    touch(tmp_path, f"semseg/{name}.png", "semseg/bath/1.png")
    found = find_predictions(tmp_path, "semseg", CLASSES, ids)
    with pytest.raises(
        UserError, match=rf"semseg/{name}.png may be the prediction of several images \({', '.join(ids)}\)"
    ):
        found.path(ids[0])
    touch(tmp_path, *(f"semseg/{sample_id}.png" for sample_id in ids))
    found = find_predictions(tmp_path, "semseg", CLASSES, ids)
    assert [found.path(sample_id) for sample_id in ids] == [tmp_path / f"semseg/{i}.png" for i in ids]


def test_short_names_of_one_image_are_found(tmp_path):
    touch(tmp_path, "1_depth.npy", "b_2_depth.npy", "2_depth.npy")
    found = find_predictions(tmp_path, "depth", DEPTH, ["a/1", "b/2", "2"])
    assert [found.path(i).name for i in ("a/1", "b/2", "2")] == ["1_depth.npy", "b_2_depth.npy", "2_depth.npy"]


def test_class_maps_count_from_0_or_from_1(tmp_path):
    zero = read_prediction(png(tmp_path / "a.png", [[0, 3], [255, 1]]), CLASSES)[..., 0]
    one = read_prediction(png(tmp_path / "b.png", [[1, 4], [0, 2]]), CLASSES, ONE_BASED)[..., 0]
    for found in (zero, one):
        np.testing.assert_array_equal(found, [[0, 3], [np.nan, 1]])
    with pytest.raises(UserError, match=r"b.png: class value 4 found, but stored values go from 0 to 3"):
        read_prediction(tmp_path / "b.png", CLASSES)
    with pytest.raises(UserError, match=r"class value 255 found, but stored values go from 0 \(unlabelled\) to 4"):
        read_prediction(tmp_path / "a.png", CLASSES, ONE_BASED)


def test_strengths_and_vectors_in_eight_bits(tmp_path):
    np.testing.assert_allclose(read_prediction(png(tmp_path / "a.png", [[0, 51, 255]]), BINARY)[0, :, 0], [0, 0.2, 1])
    found = read_prediction(png(tmp_path / "n.png", [[[0, 127, 255]]]), NORMALS)
    np.testing.assert_allclose(found[0, 0], [-1, -1 / 255, 1], atol=1e-6)


def test_vectors_as_floats(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 4, 3))
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_allclose(read_prediction(tmp_path / "a.npy", NORMALS), values, rtol=1e-6)
    np.save(tmp_path / "c.npy", values.transpose(2, 0, 1))
    np.testing.assert_allclose(read_prediction(tmp_path / "c.npy", NORMALS), values, rtol=1e-6)
    np.save(tmp_path / "b.npy", np.ones((5, 4, 2)))
    with pytest.raises(
        UserError, match=r"b.npy: expected floats of shape \(H, W, 3\), found float64 of shape \(5, 4, 2\)"
    ):
        read_prediction(tmp_path / "b.npy", NORMALS)


@pytest.mark.parametrize(
    "content",
    [
        {"depth": METRES},
        {"depth": METRES, "rgb": METRES + 1},
        {"pred": METRES},
        {"pred": METRES, "cube": np.ones((2, 2, 2))},
    ],
)
def test_the_key_of_a_mat_file_is_found(tmp_path, content):
    io.savemat(tmp_path / "a.mat", content)
    np.testing.assert_array_equal(read_prediction(tmp_path / "a.mat", DEPTH)[..., 0], METRES)


def test_metres_and_what_is_none(tmp_path):
    values = METRES.astype(np.float64)
    values[0, :2] = np.nan, np.inf
    np.save(tmp_path / "a.npy", values)
    found = read_prediction(tmp_path / "a.npy", DEPTH)
    assert found.dtype == np.float32
    assert np.isnan(found[..., 0]).sum() == 2
    np.testing.assert_array_equal(found[1:, :, 0], METRES[1:])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (
            "a.npy",
            lambda p: np.save(p, METRES.clip(0).astype(np.uint16)),
            "of unknown unit; set depth_scale",
        ),
        ("a.npy", lambda p: np.save(p, np.ones((3, 4, 2))), r"found shape \(3, 4, 2\) of float64"),
        ("a.npy", lambda p: p.write_bytes(b"no"), "cannot be read as .npy"),
        ("a.mat", lambda p: p.write_bytes(b"no"), "cannot be read as .mat"),
        ("a.mat", lambda p: p.write_bytes(b""), "cannot be read as .mat"),
        (
            "a.mat",
            lambda p: p.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"x" * 100),
            "version 7 or older",
        ),
        (
            "a.mat",
            lambda p: io.savemat(p, {"a": METRES, "b": METRES}),
            "a single array, found a, b; name the key 'depth'",
        ),
        ("a.mat", lambda p: io.savemat(p, {}), "found none"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        read_prediction(tmp_path / name, DEPTH)
    assert str(tmp_path / name) in str(caught.value)
