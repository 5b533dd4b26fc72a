from collections import Counter

import albumentations as A
import numpy as np
import pytest
from helpers.miniature import compose_config, write_miniature
from helpers.samples import SPECS, stored_sample

from mtlsi_net.core.config import check_options
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data import augmentation
from mtlsi_net.data.augmentation import (
    Flip,
    MtanTrainPipeline,
    PhotometricDistortion,
    RandomCrop,
    RandomScale,
    RandomZoom,
    Step,
    TrainPipeline,
    draw_distortion,
)
from mtlsi_net.data.sampling import Draw
from mtlsi_net.data.transforms import IMAGE, VALID
from mtlsi_net.engine.build import build_data, build_tasks

DRAWS = 2000


def seeded(step):
    step.set_random_seed(0)
    return step


def even(values, low, high, bins=10):
    """Whether ``values`` are evenly spread over [low, high), by chi-squared against the 99.9 % quantile of 9 degrees."""
    counts, _ = np.histogram(values, bins, (low, high))
    assert counts.sum() == len(values), "some lie outside"
    expected = len(values) / bins
    return ((counts - expected) ** 2 / expected).sum() < 27.9


def ramp(height, width):
    """Return a sample whose depth tells where each pixel came from, and how much it was zoomed."""
    depth = np.arange(1, height * width + 1, dtype=np.float32).reshape(height, width, 1)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    return {IMAGE: image, "semseg": np.ones((height, width, 1), np.uint8), "depth": depth}


RAMP_SPECS = {name: SPECS[name] for name in ("semseg", "depth")}


# -- the protocol's distributions ---------------------------------------------------------------------------------------


def test_scales_are_even_from_a_half_to_two():
    step = seeded(RandomScale(RAMP_SPECS))
    factors = [1 / float(step(**ramp(8, 8))["depth"][0, 0, 0]) for _ in range(DRAWS)]
    assert even(factors, 0.5, 2.0)


def test_windows_are_even_over_all_places():
    step = seeded(RandomCrop(RAMP_SPECS, (10, 20), None))
    corners = [int(step(**ramp(29, 59))["depth"][0, 0, 0]) - 1 for _ in range(DRAWS)]
    assert even([corner // 59 for corner in corners], 0, 20)
    assert even([corner % 59 for corner in corners], 0, 40)
    assert {corner % 59 for corner in corners} == set(range(40))


def test_half_of_the_samples_are_mirrored():
    step = seeded(Flip(RAMP_SPECS, p=0.5))
    mirrored = [step(**ramp(4, 6))[IMAGE][0, 0, 0] == 5 for _ in range(DRAWS)]
    assert abs(np.mean(mirrored) - 0.5) < 0.04


def test_distortion_steps_fire_half_of_the_time_and_evenly():
    rng = np.random.default_rng(0)
    drawn = [draw_distortion(rng) for _ in range(2 * DRAWS)]
    for field, low, high in (("brightness", -32, 32), ("contrast", 0.5, 1.5), ("saturation", 0.5, 1.5)):
        values = [getattr(d, field) for d in drawn if getattr(d, field) is not None]
        assert abs(len(values) / len(drawn) - 0.5) < 0.03, field
        assert even(values, low, high), field
    hues = [d.hue for d in drawn if d.hue is not None]
    assert abs(len(hues) / len(drawn) - 0.5) < 0.03
    assert set(hues) == set(range(-18, 18))
    assert even(hues, -18, 18, bins=9)
    assert abs(np.mean([d.contrast_first for d in drawn]) - 0.5) < 0.03


def test_distortion_leaves_labels_alone_and_changes_the_image():
    sample = stored_sample()
    step = seeded(PhotometricDistortion(SPECS))
    changed = [step(**sample) for _ in range(20)]
    for name in SPECS:
        assert all(c[name] is sample[name] for c in changed)
    still = np.mean([np.array_equal(c[IMAGE], sample[IMAGE]) for c in changed])
    assert still < 0.5


def test_windows_of_one_class_are_redrawn_up_to_ten_times():
    sample = ramp(10, 200)
    sample["semseg"][:, 190:] = 2  # a window of 20 columns is varied if it starts at 176 to 180
    corner = {True: [], False: []}
    for guided in corner:
        step = seeded(RandomCrop(RAMP_SPECS, (10, 20), "semseg" if guided else None))
        corner[guided] = [int(step(**sample)["depth"][0, 0, 0]) - 1 for _ in range(600)]
    share = {guided: np.mean([175 < c <= 180 for c in corners]) for guided, corners in corner.items()}
    fair = 5 / 181
    assert share[False] == pytest.approx(fair, abs=0.02)
    assert share[True] == pytest.approx(1 - (1 - fair) ** 11, abs=0.06)


def test_small_images_are_not_cropped_but_padded():
    pipeline = TrainPipeline((100, 120), SPECS, guide="semseg")
    done = pipeline(stored_sample(), np.random.default_rng(0))
    assert {done[name].shape[1:] for name in (IMAGE, *SPECS)} == {(100, 120)}
    assert done[VALID].sum() < 100 * 120


# -- randomness -------------------------------------------------------------------------------------------------------


def test_draws_depend_on_the_generator_alone_and_fill_the_size():
    pipeline = TrainPipeline(
        (32, 48), SPECS, guide="semseg", extras=[A.GaussNoise(p=0.5), A.OneOf([A.Blur(), A.CLAHE()])]
    )
    runs = [[pipeline(stored_sample(), np.random.default_rng(seed)) for seed in range(8)] for _ in range(2)]
    for first, again in zip(*runs, strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
        assert {first[name].shape[1:] for name in (IMAGE, VALID, *SPECS)} == {(32, 48)}
    assert len({sample[IMAGE].tobytes() for sample in runs[0]}) == 8


def test_inputs_are_left_alone():
    sample, pipeline = stored_sample(), TrainPipeline((32, 48), SPECS, guide="semseg")
    for seed in range(8):
        pipeline(sample, np.random.default_rng(seed))
    for name, array in stored_sample().items():
        np.testing.assert_array_equal(sample[name], array)


# -- the user's own ---------------------------------------------------------------------------------------------------


def build(root, *overrides):
    cfg = compose_config("data=nyud", f"data.root={root}", "data.size=[64,80]", "data.num_workers=0", *overrides)
    check_options(cfg.data, "data")
    return build_data(cfg, build_tasks(cfg))


@pytest.fixture
def root(tmp_path):
    return write_miniature(tmp_path / "data")


def test_extra_augmentations_come_from_the_configuration_and_touch_the_image_only(root, monkeypatch):
    monkeypatch.setattr(augmentation, "SCALES", (1.0, 1.0))
    plain = build(root).datasets["train"]
    noisy = build(root, "data.extra_augmentations=[{_target_: albumentations.GaussNoise, p: 1.0}]").datasets["train"]
    for index in range(4):
        first, second, again = plain[Draw(0, index)], noisy[Draw(0, index)], noisy[Draw(0, index)]
        assert (first["image"].float() - second["image"].float()).abs().mean() > 2.55
        assert second["image"].equal(again["image"])
        assert all(second["targets"][name].equal(target) for name, target in first["targets"].items())


@pytest.mark.parametrize("target", ["Rotate", "HorizontalFlip", "CoarseDropout"])
def test_transforms_that_move_pixels_are_refused(root, target):
    with pytest.raises(UserError, match=rf"data.extra_augmentations: {target} is not an image-only"):
        build(root, f"data.extra_augmentations=[{{_target_: albumentations.{target}}}]")


def test_they_are_found_inside_compositions(root):
    inner = "[{_target_: albumentations.Blur}, {_target_: albumentations.Rotate}]"
    with pytest.raises(UserError, match=r"Rotate is not an image-only"):
        build(root, f"data.extra_augmentations=[{{_target_: albumentations.OneOf, transforms: {inner}}}]")


def test_what_is_no_transform_is_refused():
    with pytest.raises(UserError, match="TargetSpec is not an image-only"):
        TrainPipeline((32, 48), SPECS, guide=None, extras=[TargetSpec(1, "scalar")])


def test_images_made_unusable_are_refused(root):
    data = build(root, "data.extra_augmentations=[{_target_: albumentations.Normalize, p: 1.0}]")
    with pytest.raises(UserError, match=r"data.extra_augmentations: .*float32.*8-bit RGB"):
        data.datasets["train"][Draw(0, 0)]


def test_a_misspelt_option_is_named(root):
    with pytest.raises(UserError, match=r"extra_augmentations.0.std_rang is set, but GaussNoise has no"):
        build(root, "data.extra_augmentations=[{_target_: albumentations.GaussNoise, std_rang: [0.1, 0.2]}]")


def test_they_need_augmentation(root):
    with pytest.raises(UserError, match=r"data.augment=false; set it to true"):
        build(root, "data.augment=false", "data.extra_augmentations=[{_target_: albumentations.GaussNoise}]")


def test_a_step_says_what_it_does():
    with pytest.raises(NotImplementedError):
        Step({})(image=np.zeros((2, 2, 3), np.uint8))


# -- MTAN's augmentation ----------------------------------------------------------------------------------------------


def test_mtan_zooms_by_three_factors_equally_often_and_flips_half_of_the_time():
    height, width = 24, 36
    specs = {"depth": TargetSpec(1, "scalar", fill=0.0, zoom_divides=True), "normals": SPECS["normals"]}
    columns = np.tile(np.arange(width, dtype=np.float32), (height, 1))[..., None]
    sample = {
        IMAGE: np.zeros((height, width, 3), np.uint8),
        "depth": np.full((height, width, 1), 6.0, np.float32),
        "normals": np.concatenate([np.ones_like(columns), 0 * columns, 0 * columns], axis=2),
    }
    pipeline = MtanTrainPipeline((height, width), specs, None)
    drawn = [pipeline(sample, np.random.default_rng(seed)) for seed in range(600)]
    assert {done[IMAGE].shape for done in drawn} == {(3, height, width)}
    assert all(done[VALID].all() for done in drawn)
    depths = Counter(round(float(done["depth"][0, 0, 0]), 3) for done in drawn)
    assert depths.keys() == {6.0, 5.0, 4.0}
    assert all(0.26 < count / 600 < 0.41 for count in depths.values())
    signs = Counter(float(done["normals"][0, 0, 0]) for done in drawn)
    assert signs.keys() == {1.0, -1.0}
    assert 0.42 < signs[-1.0] / 600 < 0.58


def test_mtan_draws_every_place_of_a_window():
    height, width = 12, 18
    ramp = np.arange(1, width + 1, dtype=np.float32)
    sample = {
        IMAGE: np.zeros((height, width, 3), np.uint8),
        "depth": np.tile(ramp, (height, 1))[..., None],
    }
    specs = {"depth": TargetSpec(1, "scalar", fill=0.0, zoom_divides=False)}
    step = seeded(RandomZoom(specs))
    lefts = Counter(float(step(**sample)["depth"][0, 0, 0]) for _ in range(1000))
    assert lefts.keys() == set(map(float, range(1, 8)))  # windows of 18, 15 and 12 columns


def test_a_users_transform_follows_mtans():
    pipeline = MtanTrainPipeline((40, 60), SPECS, None, extras=[A.InvertImg(p=1.0)])
    plain = MtanTrainPipeline((40, 60), SPECS, None)
    first, inverted = (own(stored_sample(), np.random.default_rng(3)) for own in (plain, pipeline))
    inside = np.broadcast_to(first[VALID], first[IMAGE].shape)
    np.testing.assert_array_equal(inverted[IMAGE][inside], 255 - first[IMAGE][inside])
