import random
from pathlib import Path

import numpy as np
import pytest

from mtlsi_net.data.transforms import (
    IMAGE,
    IMAGENET_MEAN,
    Distortion,
    TestPipeline,
    TrainPipeline,
    crop,
    draw_distortion,
    flip,
    mark_invalid,
    pad,
    photometric,
    scale,
    varied,
)
from mtlsi_net.specs import TargetSpec

VECTORS = np.load(Path(__file__).parents[2] / "fixtures" / "metric_vectors.npz")
STD = (0.229, 0.224, 0.225)
SPECS = {
    "edge": TargetSpec(1, "binary"),
    "semseg": TargetSpec(1, "classes", num_classes=40),
    "normals": TargetSpec(3, "vector", fill=0.0, flip_sign=(-1.0, 1.0, 1.0), invalid="short_vector"),
    "depth": TargetSpec(1, "scalar", fill=0.0, zoom_divides=True, invalid="zero"),
}


def vector_sample():
    return {name: VECTORS[f"tf_in_{name}"] for name in (IMAGE, *SPECS)}


def assert_equals_vector(sample, prefix, image_tolerance):
    image = (sample[IMAGE] / 255 - IMAGENET_MEAN) / STD
    np.testing.assert_allclose(
        image.transpose(2, 0, 1), VECTORS[f"{prefix}_image"], atol=image_tolerance / 255 / min(STD)
    )
    for name in SPECS:
        np.testing.assert_array_equal(sample[name].transpose(2, 0, 1), VECTORS[f"{prefix}_{name}"], err_msg=name)


def test_vector_scale():
    scaled = scale(vector_sample(), 1.37, SPECS)
    for name, array in scaled.items():
        np.testing.assert_allclose(array, VECTORS[f"tf_scale1.37_{name}"], atol=1.0 if name == IMAGE else 0)


def test_vector_val():
    sample = vector_sample()
    sample["depth"] = sample["depth"].copy()
    sample["depth"][0, 0] = 0
    done = TestPipeline((45, 64), SPECS)(sample, np.random.default_rng(0))
    assert_equals_vector(done, "tf_val", 0.01)


@pytest.mark.parametrize("seed", range(4))
def test_vector_train(seed):
    """The lineage's draws, from Python's generator and in its order, through our steps."""
    rng, (height, width) = random.Random(seed), (32, 48)
    sample = scale(vector_sample(), rng.uniform(0.5, 2.0), SPECS)

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
    assert_equals_vector(mark_invalid(pad(sample, height, width, SPECS), SPECS), f"tf_train_seed{seed}", 1.0)


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


def test_flip_twice_is_the_identity_and_once_negates_x():
    sample = vector_sample()
    once, twice = flip(sample, SPECS), flip(flip(sample, SPECS), SPECS)
    for name, array in sample.items():
        np.testing.assert_array_equal(twice[name], array)
    np.testing.assert_array_equal(once["normals"][:, ::-1, 0], -sample["normals"][..., 0])
    np.testing.assert_array_equal(once["normals"][:, ::-1, 1:], sample["normals"][..., 1:])


def test_padding_of_425x560_is_the_lineages():
    sample = {IMAGE: np.ones((425, 560, 3), np.float32), "semseg": np.ones((425, 560, 1), np.float32)}
    padded = pad(sample, 448, 576, {"semseg": SPECS["semseg"]})["semseg"][..., 0] == 1
    rows, columns = np.flatnonzero(padded.any(1)), np.flatnonzero(padded.any(0))
    assert (rows[0], 447 - rows[-1], columns[0], 575 - columns[-1]) == (11, 12, 8, 8)


@pytest.mark.parametrize(
    ("stored", "expected"), [([0, 0], [255, 255]), ([0, 255], [255, 255]), ([0, 3], [0, 3]), ([255, 3], [255, 3])]
)
def test_maps_without_foreground_are_unlabelled(stored, expected):
    spec = {"parts": TargetSpec(1, "classes", num_classes=7, invalid="background_only")}
    sample = {IMAGE: np.zeros((1, 2, 3), np.float32), "parts": np.array(stored, np.float32).reshape(1, 2, 1)}
    np.testing.assert_array_equal(mark_invalid(sample, spec)["parts"].ravel(), expected)


def test_training_draws_depend_on_the_generator_alone_and_fill_the_size():
    pipeline = TrainPipeline((32, 48), SPECS, guide="semseg")
    first, again, other = (pipeline(vector_sample(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert first[name].shape[:2] == (32, 48)
    assert not np.array_equal(first[IMAGE], other[IMAGE])


def test_distortion_steps_fire_half_of_the_time():
    rng = np.random.default_rng(0)
    drawn = [draw_distortion(rng) for _ in range(4000)]
    for field in ("brightness", "contrast", "saturation", "hue"):
        values = [getattr(d, field) for d in drawn if getattr(d, field) is not None]
        assert abs(len(values) / 4000 - 0.5) < 0.04, field
    hues = [d.hue for d in drawn if d.hue is not None]
    assert (min(hues), max(hues)) == (-18, 17)
