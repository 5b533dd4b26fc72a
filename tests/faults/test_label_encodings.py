"""Labels and predictions in the encodings that people have: read by a setting that a message names, or said in one line."""

import logging

import cv2
import numpy as np
import pytest
from helpers.miniature import compose_config, write_miniature
from helpers.samples import loaded
from PIL import Image
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.encoding import NO_CLASS, read_palette
from mtlsi_net.data_tools.findings import Level
from mtlsi_net.data_tools.verify import verify
from mtlsi_net.engine.build import build_data, build_tasks, fit_priors
from mtlsi_net.engine.score import score

FOLDERS = {"semseg": "segmentation", "depth": "depth", "normals": "normals", "boundary": "edge"}
COMMON = ("data.size=[48,64]", "tasks.semseg.classes=[a,b,c,d,e]", "data.num_workers=0")


def configured(root, *overrides, name="train"):
    return compose_config("data=folder", f"data.root={root}", *COMMON, *overrides, name=name)


def folder(root, *overrides):
    cfg = configured(root, "data.augment=false", *overrides)
    return build_data(cfg, build_tasks(cfg))


def value(root, task, *overrides):
    """Return the first validation label of a task as training takes it, (C, H, W)."""
    return loaded(folder(root, *overrides).datasets["val"], 0)["targets"][task][0].numpy()


def checked(root, out, *overrides):
    options = ("workers=1", "progress=false", f"paths.run_dir={out}", *overrides)
    result = verify(configured(root, *options, name="verify_data"))
    return result.level, [finding.text for finding in result.findings if finding.level > Level.NOTE]


def warned(root, caplog, *overrides):
    """Return what training says of the labels before it starts."""
    cfg = configured(root, "data.augment=false", *overrides)
    tasks = build_tasks(cfg)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        fit_priors(build_data(cfg, tasks), tasks)
    return caplog.text


def scored(root, predictions, out, caplog, *overrides):
    """Return what scoring a folder of predictions says, and the scores."""
    options = (f"pred={predictions}", f"paths.run_dir={out}", "workers=1", "progress=false")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        result = score(configured(root, *options, *overrides, name="score"))
    return caplog.text, result.scores


def rewrite(root, task, write, suffix=".png"):
    """Write each label of a task anew: ``write(path, stored values)``."""
    for path in list((root / FOLDERS[task]).iterdir()):
        stored = np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))
        path.unlink()
        write(path.with_suffix(suffix), stored)


def png(change):
    return lambda path, stored: Image.fromarray(change(stored)).save(path)


def npy(change):
    return lambda path, stored: np.save(path, change(stored))


@pytest.fixture
def root(tmp_path):
    return write_miniature(tmp_path / "data")


def millimetres(depth):
    return (depth * 1000).round().astype(np.uint16)


# -- depth ------------------------------------------------------------------------------------------------------------

DEPTH_FILES = {
    "16-bit PNG of millimetres": (png(millimetres), ".png", 0.001),
    "16-bit TIFF of millimetres": (png(millimetres), ".tif", 0.001),
    "uint16 npy of millimetres": (npy(millimetres), ".npy", 0.001),
    "float npy of millimetres": (npy(lambda depth: depth * 1000), ".npy", 0.001),
    "float64 npy of centimetres": (npy(lambda depth: depth.astype(np.float64) * 100), ".npy", 0.01),
    "16-bit PNG of 1/256 m, as KITTI's": (png(lambda depth: (depth * 256).round().astype(np.uint16)), ".png", 1 / 256),
    "float16 npy of metres": (npy(lambda depth: depth.astype(np.float16)), ".npy", None),
    "float TIFF of metres": (png(lambda depth: depth), ".tif", None),
    "npy with a channel": (npy(lambda depth: depth[..., None]), ".npy", None),
    "npy with a channel first": (npy(lambda depth: depth[None]), ".npy", None),
    "compressed npz": (lambda path, depth: np.savez_compressed(path, depth=depth), ".npz", None),
    "mat": (lambda path, depth: io.savemat(path, {"depth": depth}), ".mat", None),
}


@pytest.mark.parametrize("kind", DEPTH_FILES)
def test_depth_is_read_from(root, kind):
    expected = value(root, "depth")
    write, suffix, scale = DEPTH_FILES[kind]
    rewrite(root, "depth", write, suffix)
    options = [f"+data.files.depth=[depth,{suffix}]"] + ([f"data.depth_scale={scale}"] if scale else [])
    np.testing.assert_allclose(value(root, "depth", *options), expected, atol=3e-3)


@pytest.mark.parametrize(("write", "suffix"), [(png(millimetres), ".png"), (npy(millimetres), ".npy")])
def test_depth_in_whole_numbers_names_the_setting(root, tmp_path, write, suffix):
    rewrite(root, "depth", write, suffix)
    place = f"+data.files.depth=[depth,{suffix}]"
    with pytest.raises(UserError, match=r"unknown unit.*data.depth_scale=0.001 for millimetres") as caught:
        value(root, "depth", place)
    assert "pickle" not in str(caught.value)
    level, texts = checked(root, tmp_path / "out", place)
    assert level == Level.BROKEN
    assert "data.depth_scale=0.001" in texts[0]


def test_a_png_called_npy_advises_nothing_unsafe(root):
    rewrite(root, "depth", lambda path, depth: Image.fromarray(millimetres(depth)).save(path, "PNG"), ".npy")
    with pytest.raises(UserError, match="it is no such file") as caught:
        value(root, "depth")
    assert "allow_pickle" not in str(caught.value)


def test_float_millimetres_are_said_by_verification_training_and_scoring(root, tmp_path, caplog):
    rewrite(root, "depth", npy(lambda depth: depth * 1000), ".npy")
    words = "data.depth_scale=0.001"
    level, texts = checked(root, tmp_path / "out")
    assert level == Level.DIFFERS
    assert sum(words in text and "the median depth is" in text for text in texts) == 1
    assert words in warned(root, caplog)
    said, _ = scored(root, root, tmp_path / "score", caplog, "one_based=true")
    assert f"labels: depth: the median depth is 2452 m; if the files hold millimetres, set {words}" in said
    assert "predictions: depth: the median depth" in said
    quiet = ("data.depth_scale=0.001", "depth_scale=0.001", "one_based=true")
    said, scores = scored(root, root, tmp_path / "score2", caplog, *quiet)
    assert "median" not in said
    assert scores["depth"]["rmse"] == pytest.approx(0)


def test_a_changed_scale_is_not_answered_from_the_cache(root, tmp_path):
    decoded = f"data.decoded_dir={tmp_path}/decoded"
    first, second = (value(root, "depth", decoded, f"data.depth_scale={scale}") for scale in (1, 0.5))
    valid = first != 255
    np.testing.assert_allclose(second[valid], first[valid] / 2)
    rewrite(root, "boundary", png(lambda edge: (edge > 0).astype(np.uint8)))
    assert value(root, "boundary", decoded).max() < 0.01
    assert value(root, "boundary", decoded, "data.binary_max=1").max() == 1


@pytest.mark.parametrize("scale", ["0", "-1", "{deepth: 0.001}"])
def test_a_scale_that_is_none_is_refused(root, scale):
    with pytest.raises(UserError, match=r"depth_scale"):
        folder(root, f"data.depth_scale={scale}")


# -- classes ----------------------------------------------------------------------------------------------------------

COLORS = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (200, 100, 50)], np.uint8)
"""Of the stored values 0, unlabelled, and 1 to 5."""


def from_zero(stored):
    return stored - np.uint8(1)  # 0 becomes 255


def indexed(change=lambda stored: stored):
    def write(path, stored):
        picture = Image.fromarray(change(stored))
        picture.putpalette(np.arange(768, dtype=np.uint8).tobytes())
        picture.save(path)

    return write


CLASS_FILES = {
    "from 0 with 255": (png(from_zero), ".png", ["data.zero_based=true"]),
    "from 0 with 255 of one task": (png(from_zero), ".png", ["data.zero_based={semseg: true}"]),
    "from 0 with 255 in a palette PNG": (indexed(from_zero), ".png", ["data.zero_based=true"]),
    "from 0 with -1 in an array": (npy(lambda s: s.astype(np.int64) - 1), ".npy", ["data.zero_based=true"]),
    "from 1 in an int64 array": (npy(lambda s: s.astype(np.int64)), ".npy", []),
    "from 1 in whole floats": (npy(lambda s: s.astype(np.float32)), ".npy", []),
    "from 1 in 16 bits": (png(lambda s: s.astype(np.uint16)), ".png", []),
    "from 1 in a palette PNG": (indexed(), ".png", []),
    "from 1 as grey RGB": (png(lambda s: np.dstack([s] * 3)), ".png", []),
    "from 1 as grey RGB with alpha": (png(lambda s: np.dstack([s, s, s, s * 0 + 255])), ".png", []),
    "from 1 with alpha": (png(lambda s: np.dstack([s, s * 0 + 255])), ".png", []),
}


@pytest.mark.parametrize("kind", CLASS_FILES)
def test_classes_are_read(root, kind):
    expected = value(root, "semseg")
    write, suffix, options = CLASS_FILES[kind]
    rewrite(root, "semseg", write, suffix)
    options = [*options, f"+data.files.semseg=[segmentation,{suffix}]"]
    np.testing.assert_array_equal(value(root, "semseg", *options), expected)


def write_palette(path, form):
    """Write a palette as editors on Windows do; return its lines."""
    names = ["void", "wall", "floor", "my chair", "bed", "lamp"]
    lines = [f"{form.format(*color)} {name}" for color, name in zip(COLORS, names, strict=True)]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    return lines


@pytest.mark.parametrize(
    "form", ["{} {} {}", "{}, {}, {}", "{}, {}, {},", "#{:02x}{:02X}{:02x}", "#{:02x}{:02X}{:02x},"]
)
def test_colours_of_a_palette_are_written_as(tmp_path, form):
    write_palette(tmp_path / "palette.txt", form)
    expected = dict(zip(map(tuple, COLORS.tolist()), [NO_CLASS, 0, 1, 2, 3, 4], strict=True))
    assert read_palette(tmp_path / "palette.txt") == expected


def test_colour_masks_are_read_by_their_palette(root, tmp_path):
    expected = value(root, "semseg")
    rewrite(root, "semseg", png(lambda stored: COLORS[stored]))
    path = tmp_path / "my palette.txt"
    lines = write_palette(path, "{}, {}, {}")
    np.testing.assert_array_equal(value(root, "semseg", f"data.palette='{path}'"), expected)
    path.write_text("\n".join(lines[:-1]))
    message = r"1 colours are not in the palette \(\(200, 100, 50\)\)"
    with pytest.raises(UserError, match=message):
        value(root, "semseg", f"data.palette='{path}'")
    path.write_text("1 2")
    with pytest.raises(UserError, match="line 1: '1 2' is no colour"):
        folder(root, f"data.palette='{path}'")


def test_colour_masks_without_palette_name_the_setting(root):
    rewrite(root, "semseg", png(lambda stored: COLORS[stored]))
    with pytest.raises(UserError, match=r"with colours.*set data.palette=FILE \(one 'R G B' a line"):
        value(root, "semseg")


def test_classes_from_0_with_255_name_the_setting(root):
    rewrite(root, "semseg", png(from_zero))
    with pytest.raises(UserError, match=r"class value 255 found.*set data.zero_based=true"):
        value(root, "semseg")


def test_classes_from_0_without_255_are_noticed(root, tmp_path, caplog):
    rewrite(root, "semseg", png(lambda stored: np.maximum(stored, 1) - np.uint8(1)))
    words = "the last class (e) never occurs, but 0 (unlabelled) does; if files count from 0, set data.zero_based=true"
    assert f"semseg: {words}" in checked(root, tmp_path / "out")[1]
    assert words in warned(root, caplog)
    assert "never occurs" not in warned(root, caplog, "data.zero_based=true")


def test_classes_from_1_read_as_from_0_are_noticed(root, tmp_path, caplog):
    rewrite(root, "semseg", png(lambda stored: np.clip(stored, 1, 4)))
    words = "class 0 (a) never occurs; if the files count classes from 1, set data.zero_based=false"
    assert f"semseg: {words}" in checked(root, tmp_path / "out", "data.zero_based=true")[1]
    assert words in warned(root, caplog, "data.zero_based=true")


def test_a_jpeg_of_classes_is_refused(root):
    rewrite(root, "semseg", png(lambda stored: stored * 40), ".jpg")
    with pytest.raises(UserError, match="a JPEG changes the values of a label; store it as PNG"):
        value(root, "semseg", "+data.files.semseg=[segmentation,.jpg]")


def test_one_based_predictions_are_said(root, tmp_path, caplog):
    labels = ("~tasks.depth", "~tasks.normals", "~tasks.boundary", "tasks.semseg.classes=[a,b,c,d,e,f]")
    rewrite(root, "semseg", png(lambda stored: np.where(stored == 2, np.uint8(6), stored)))
    (tmp_path / "pred").mkdir()
    for path in (root / "segmentation").iterdir():
        stored = np.asarray(Image.open(path))
        Image.fromarray(np.clip(stored, 1, 5)).save(tmp_path / "pred" / f"{path.stem}_semseg.png")
    said, _ = scored(root, tmp_path / "pred", tmp_path / "out", caplog, *labels)
    assert (
        "predictions: semseg: class 0 (a) never occurs; if the files count classes from 1, set one_based=true" in said
    )


# -- masks and normals --------------------------------------------------------------------------------------------------


def two_colors(path, edge):
    picture = Image.fromarray((edge > 0).astype(np.uint8))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(path)


MASK_FILES = {
    "0 and 1": (png(lambda edge: (edge > 0).astype(np.uint8)), ".png", ["data.binary_max=1"]),
    "0 and 1 in int64": (npy(lambda edge: (edge > 0).astype(np.int64)), ".npy", ["data.binary_max=1"]),
    "bool": (npy(lambda edge: edge > 0), ".npy", []),
    "1 bit": (png(lambda edge: edge > 0), ".png", []),
    "floats": (npy(lambda edge: edge / 255), ".npy", []),
    "16 bits": (png(lambda edge: edge.astype(np.uint16) * 257), ".png", []),
    "16 bits, big-endian": (npy(lambda edge: (edge.astype(np.uint16) * 257).astype(">u2")), ".npy", []),
    "16 bits in int32": (npy(lambda edge: edge.astype(np.int32) * 257), ".npy", []),
    "RGB": (png(lambda edge: np.dstack([edge] * 3)), ".png", []),
    "a palette of black and white": (two_colors, ".png", []),
    "a JPEG with compression noise": (lambda path, edge: Image.fromarray(edge).save(path, quality=95), ".jpg", []),
}


@pytest.mark.parametrize("kind", MASK_FILES)
def test_boundaries_are_read_for_training_and_as_reference(root, kind):
    expected = loaded(folder(root).datasets["val"], 0)
    write, suffix, options = MASK_FILES[kind]
    rewrite(root, "boundary", write, suffix)
    batch = loaded(folder(root, *options, f"+data.files.boundary=[edge,{suffix}]").datasets["val"], 0)
    np.testing.assert_array_equal(batch["targets"]["boundary"], expected["targets"]["boundary"])
    reference, stored = (each["references"]["boundary"][0].maps for each in (batch, expected))
    np.testing.assert_array_equal(reference, stored)


def test_boundaries_of_0_and_1_are_said_by_verification_training_and_scoring(root, tmp_path, caplog):
    rewrite(root, "boundary", png(lambda edge: (edge > 0).astype(np.uint8)))
    words = "the largest stored value is 1, a share of 1/255; if 1 is positive, set"
    assert f"boundary: {words} data.binary_max=1" in checked(root, tmp_path / "out")[1]
    assert f"{words} data.binary_max=1" in warned(root, caplog)
    said, _ = scored(root, root, tmp_path / "score", caplog, "one_based=true")
    assert f"labels: boundary: {words} data.binary_max=1" in said
    assert f"predictions: boundary: {words} binary_max=1" in said
    said, _ = scored(root, root, tmp_path / "s2", caplog, "one_based=true", "data.binary_max=1", "binary_max=1")
    assert "largest stored" not in said


def test_the_share_of_an_implausible_mask_is_that_of_its_setting(root, tmp_path):
    rewrite(root, "boundary", png(lambda edge: (edge > 0).astype(np.uint8)))
    words = "boundary: the largest stored value is 1, a share of 1/100; if 1 is positive, set data.binary_max=1"
    assert words in checked(root, tmp_path / "out", "data.binary_max=100")[1]


def vectors(stored):
    return stored.astype(np.float32) / np.float32(127.5) - 1


def unit(stored):
    """Vectors of length 1 or 0."""
    long = np.linalg.norm(vectors(stored), axis=2, keepdims=True)
    return np.where(long > 0.5, vectors(stored) / np.maximum(long, 0.5), 0)


NORMAL_FILES = {
    "floats": (npy(unit), ".npy"),
    "float64": (npy(lambda stored: unit(stored).astype(np.float64)), ".npy"),
    "floats with channels first": (npy(lambda stored: unit(stored).transpose(2, 0, 1)), ".npy"),
    "bytes in npy": (npy(lambda stored: stored), ".npy"),
    "compressed npz": (lambda path, stored: np.savez_compressed(path, normals=unit(stored)), ".npz"),
    "npz with one array": (lambda path, stored: np.savez_compressed(path, unit(stored)), ".npz"),
}


@pytest.mark.parametrize("kind", NORMAL_FILES)
def test_normals_are_read_from(root, kind):
    expected = value(root, "normals")
    write, suffix = NORMAL_FILES[kind]
    rewrite(root, "normals", write, suffix)
    found = value(root, "normals", f"+data.files.normals=[normals,{suffix}]")
    np.testing.assert_array_equal(found == 255, expected == 255)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_normals_in_other_encodings_are_refused_or_said(root, tmp_path, caplog):
    place = "+data.files.normals=[normals,.npy]"
    rewrite(root, "normals", npy(lambda stored: stored.astype(np.float32)), ".npy")
    with pytest.raises(UserError, match=r"normals of length up to .*; store unit vectors as floats, or uint8"):
        value(root, "normals", place)
    rewrite(root, "normals", npy(lambda stored: stored / 255), ".npy")
    assert any("no component of a normal is negative" in text for text in checked(root, tmp_path / "out", place)[1])
    assert "no component of a normal is negative" in warned(root, caplog, place)


def test_normals_of_one_channel_are_refused(root):
    rewrite(root, "normals", png(lambda stored: stored[..., 0]))
    with pytest.raises(UserError, match=r"expected a picture with three channels, found mode L"):
        value(root, "normals")


# -- what predict writes ------------------------------------------------------------------------------------------------


def test_the_16_bit_depth_of_predict_is_scored_by_a_setting(root, tmp_path, caplog):
    (tmp_path / "pred").mkdir()
    only = ("~tasks.semseg", "~tasks.normals", "~tasks.boundary")
    for path in (root / "depth").iterdir():
        cv2.imwrite(str(tmp_path / "pred" / f"{path.stem}_depth.png"), millimetres(np.load(path)))
    with pytest.raises(UserError, match=r"set depth_scale to .*, depth_scale=0.001 for millimetres"):
        scored(root, tmp_path / "pred", tmp_path / "out", caplog, *only)
    _, scores = scored(root, tmp_path / "pred", tmp_path / "out2", caplog, *only, "depth_scale=0.001")
    assert scores["depth"]["rmse"] < 0.001
