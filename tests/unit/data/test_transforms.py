import random

import cv2
import numpy as np
import pytest
from helpers.samples import SPECS, stored_sample, values_of, vector, vector_sample

from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.decoding import decode, label_values
from mtlsi_net.data.transforms import (
    IMAGE,
    IMAGENET_MEAN,
    VALID,
    Distortion,
    TestPipeline,
    crop,
    flip,
    pad,
    photometric,
    reduce,
    scale,
    varied,
    zoom,
)

STD = (0.229, 0.224, 0.225)


def assert_equals_vector(sample, prefix, image_tolerance):
    def column(values):
        return np.reshape(values, (3, 1, 1))

    image = (sample[IMAGE] - column(IMAGENET_MEAN)) / column(STD)
    np.testing.assert_allclose(image, vector(f"{prefix}_image"), atol=image_tolerance / 255 / min(STD))
    for name in SPECS:
        np.testing.assert_array_equal(sample[name], vector(f"{prefix}_{name}"), err_msg=name)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_vector_scale(dtype):
    scaled = scale(vector_sample() | {IMAGE: vector("tf_in_image").astype(dtype)}, 1.37, SPECS)
    for name, array in scaled.items():
        np.testing.assert_allclose(array, vector(f"tf_scale1.37_{name}"), atol=1.0 if name == IMAGE else 0)


def test_vector_val():
    sample = vector_sample()
    sample["depth"][0, 0] = 0
    done = TestPipeline((45, 64), SPECS)(sample, np.random.default_rng(0))
    assert_equals_vector(values_of(done), "tf_val", 0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("seed", range(4))
def test_vector_train(seed, dtype):
    """The lineage's draws, from Python's generator and in its order, through our steps."""
    rng, (height, width) = random.Random(seed), (32, 48)
    image = {IMAGE: vector("tf_in_image").astype(dtype)}
    sample = scale(vector_sample() | image, rng.uniform(0.5, 2.0), SPECS)

    def window():
        slack = [max(have - want, 0) for have, want in zip(sample[IMAGE].shape[:2], (height, width), strict=True)]
        return rng.randint(0, slack[0]), rng.randint(0, slack[1])

    top_left = window()
    for _ in range(10):
        if varied(crop(sample, *top_left, height, width)["semseg"]):
            break
        top_left = window()
    sample = crop(sample, *top_left, height, width)
    if rng.random() < 0.5:
        sample = flip(sample, SPECS)
    sample[IMAGE] = photometric(sample[IMAGE], lineage_distortion(rng))
    assert_equals_vector(values_of(pad(sample, (height, width), SPECS)), f"tf_train_seed{seed}", 1.0)


def lineage_distortion(rng):
    def fires():
        return rng.random() < 0.5

    values = {}
    values["brightness"] = rng.uniform(-32, 32) if fires() else None
    values["contrast_first"] = fires()
    if values["contrast_first"]:
        values["contrast"] = rng.uniform(0.5, 1.5) if fires() else None
    values["saturation"] = rng.uniform(0.5, 1.5) if fires() else None
    values["hue"] = rng.randint(-18, 17) if fires() else None
    if not values["contrast_first"]:
        values["contrast"] = rng.uniform(0.5, 1.5) if fires() else None
    return Distortion(**values)


@pytest.mark.parametrize("make", [vector_sample, stored_sample])
def test_flip_twice_is_the_identity_and_once_negates_x(make):
    sample = make()
    once, twice = flip(sample, SPECS), flip(flip(sample, SPECS), SPECS)
    for name, array in sample.items():
        np.testing.assert_array_equal(twice[name], array)
        assert once[name].shape == array.shape
    before, after = (label_values(s["normals"], TargetSpec(3, "vector")).numpy() for s in (sample, once))
    np.testing.assert_allclose(after[0, :, ::-1], -before[0], atol=2e-7)
    np.testing.assert_array_equal(after[1:, :, ::-1], before[1:])
    np.testing.assert_array_equal(sample["normals"], make()["normals"])  # the input is left alone


def test_stored_maps_go_through_all_steps_as_their_values_do():
    """uint8 labels moved first and decoded last, against the same labels decoded first."""
    stored = stored_sample()
    values = stored | {name: decode(stored[name], SPECS[name].kind) for name in ("edge", "semseg", "normals")}

    def steps(sample):
        moved = crop(scale(sample, 0.7, SPECS), 2, 3, 20, 30)
        return values_of(pad(flip(moved, SPECS), (32, 48), SPECS))

    for name, array in steps(stored).items():
        np.testing.assert_allclose(array, steps(values)[name], atol=2e-7, err_msg=name)


@pytest.mark.parametrize("contrast_first", [True, False])
def test_distortion_is_truncated_after_every_step(contrast_first):
    """Against the steps written out in floating point."""
    by = Distortion(brightness=-20.4, contrast=1.37, saturation=0.6, hue=-11, contrast_first=contrast_first)

    def linear(values, gain, offset):
        return (values.astype(np.float32) * np.float32(gain) + np.float32(offset)).clip(0, 255).astype(np.uint8)

    def in_hsv(pixels, change):
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        change(hsv)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    def saturate(hsv):
        hsv[..., 1] = linear(hsv[..., 1], by.saturation, 0)

    def turn(hsv):
        hsv[..., 0] = (hsv[..., 0].astype(int) + by.hue) % 180

    pixels = linear(vector_sample()[IMAGE], 1, by.brightness)
    pixels = linear(pixels, by.contrast, 0) if contrast_first else pixels
    pixels = in_hsv(in_hsv(pixels, saturate), turn)
    pixels = pixels if contrast_first else linear(pixels, by.contrast, 0)
    np.testing.assert_array_equal(photometric(vector_sample()[IMAGE], by), pixels)
    np.testing.assert_array_equal(photometric(vector_sample()[IMAGE], Distortion()), vector_sample()[IMAGE])


def test_padding_of_425x560_is_the_lineages():
    sample = {IMAGE: np.ones((425, 560, 3), np.uint8), "semseg": np.ones((425, 560, 1), np.uint8)}
    specs = {"semseg": SPECS["semseg"]}
    padded = values_of(pad(sample, (448, 576), specs), specs)
    for inside in (padded["semseg"][0] == 1, padded[VALID][0], padded[IMAGE][0] == np.float32(1 / 255)):
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert (rows[0], 447 - rows[-1], columns[0], 575 - columns[-1]) == (11, 12, 8, 8)
        assert inside.sum() == 425 * 560


@pytest.mark.parametrize(
    ("stored", "expected"), [([0, 0], [255, 255]), ([0, 255], [255, 255]), ([0, 3], [0, 3]), ([255, 3], [255, 3])]
)
def test_maps_without_foreground_are_unlabelled(stored, expected):
    spec = TargetSpec(1, "classes", num_classes=7, invalid="background_only")
    for dtype in (np.uint8, np.float32):
        label = np.array(stored, dtype).reshape(1, 2, 1)
        assert label_values(label, spec).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([0, 0, 0, 0], False),
        ([0, 0, 0, 1], False),
        ([0, 0, 1, 1], True),
        ([5, 255, 255, 255], False),
        ([255] * 4, False),
    ],
)
def test_varied_counts_labelled_pixels_only(classes, expected):
    for dtype in (np.uint8, np.float32):
        assert varied(np.array(classes, dtype).reshape(2, 2, 1)) is expected


def test_reducing_leaves_means_and_depth_alone():
    sample, half = vector_sample(), reduce(vector_sample(), 0.5, SPECS)
    assert half[IMAGE].dtype == np.float32
    assert half[IMAGE].mean() == pytest.approx(sample[IMAGE].mean(), abs=0.01)
    assert set(np.unique(half["depth"])) <= set(np.unique(sample["depth"]))


def corner_bilinear(plane, height, width):
    """Resize (h, w) so that corner pixels stay corner pixels, pixel by pixel."""
    rows, columns = plane.shape
    result = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y, x = i * (rows - 1) / (height - 1), j * (columns - 1) / (width - 1)
            top, left = min(int(y), rows - 2), min(int(x), columns - 2)
            dy, dx = y - top, x - left
            upper = (1 - dx) * plane[top, left] + dx * plane[top, left + 1]
            lower = (1 - dx) * plane[top + 1, left] + dx * plane[top + 1, left + 1]
            result[i, j] = (1 - dy) * upper + dy * lower
    return result


@pytest.mark.parametrize("factor", [1.2, 1.5])
def test_zoom_enlarges_a_window_to_the_whole_size_as_written_out(factor):
    rng = np.random.default_rng(0)
    height, width, top, left = 24, 30, 3, 4
    rows, columns = int(height / factor), int(width / factor)
    normals = rng.normal(size=(height, width, 3)).astype(np.float32)
    normals[:, :12] = 0  # no label
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-9)
    sample = {
        IMAGE: rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
        "semseg": rng.integers(0, 40, (height, width, 1)).astype(np.uint8),
        "depth": rng.uniform(1, 9, (height, width, 1)).astype(np.float32),
        "normals": normals,
    }
    specs = {name: SPECS[name] for name in ("semseg", "depth", "normals")}
    zoomed = zoom(sample, factor, top, left, specs)
    assert {name: array.shape for name, array in zoomed.items()} == {name: a.shape for name, a in sample.items()}
    assert zoomed[IMAGE].dtype == np.uint8

    def window(name):
        return sample[name][top : top + rows, left : left + columns]

    def stretched(name):
        planes = [corner_bilinear(window(name)[..., c].astype(float), height, width) for c in range(3)]
        return np.stack(planes, axis=2)

    np.testing.assert_allclose(zoomed[IMAGE], stretched(IMAGE), atol=0.501)  # rounded
    i, j = np.arange(height) * rows // height, np.arange(width) * columns // width
    np.testing.assert_array_equal(zoomed["semseg"], window("semseg")[i][:, j])
    np.testing.assert_allclose(zoomed["depth"], window("depth")[i][:, j] / factor, rtol=1e-6)
    blurred = stretched("normals")
    lengths = np.linalg.norm(blurred, axis=2)
    clear = np.abs(lengths - 0.5) > 1e-5
    expected = np.where((lengths < 0.5)[..., None], 0, blurred / np.maximum(lengths, 0.5)[..., None])
    np.testing.assert_allclose(zoomed["normals"][clear], expected[clear], atol=1e-5)
    assert (lengths < 0.5).any()
    assert (lengths >= 0.5).any()


def test_zoom_keeps_disparity_where_its_spec_says_so_and_changes_nothing_by_one():
    spec = {"depth": TargetSpec(1, "scalar", fill=0.0, invalid="zero")}
    sample = {IMAGE: np.zeros((6, 8, 3), np.uint8), "depth": np.full((6, 8, 1), 0.3, np.float32)}
    np.testing.assert_array_equal(zoom(sample, 1.5, 0, 0, spec)["depth"], sample["depth"])
    same = zoom(sample, 1.0, 0, 0, spec)
    assert all(same[name] is sample[name] for name in sample)
