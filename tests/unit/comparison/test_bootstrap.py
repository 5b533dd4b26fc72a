import math

import numpy as np
import pytest
from helpers.run_folders import make_run

from mtlsi_net.comparison.bootstrap import (
    Difference,
    Resampled,
    _resample_gain,
    differences,
    resample,
    seed_interval,
    worst_images,
)
from mtlsi_net.comparison.gains import find_gain
from mtlsi_net.comparison.identity import Group, group_seeds
from mtlsi_net.comparison.read import read_run
from mtlsi_net.comparison.tables import Table, difference_cells
from mtlsi_net.metrics.gain import delta_m

KEY = "semseg/mIoU"
RNG = np.random.default_rng(1)


def sums(values):
    """Return each image's (error, pixels) so that the pooled ratio is the mean of ``values``."""
    return [[float(value), 1.0] for value in values]


def ratio_run(folder, values, config=None, task="semseg", metric="mIoU", **rest):
    images = {f"{task}/{metric}": sums(values)}
    return make_run(folder, {task: {metric: float(np.mean(values))}}, config, images=images, **rest)


def prepared(runs, count=4000):
    """Return the groups, their gains, and their scores on resamples by label, of which nothing was skipped."""
    groups, _ = group_seeds(runs)
    gains = {group.label: find_gain(group, groups) for group in groups}
    resampled, skipped = resample(groups, gains, count, 0)
    assert skipped == []
    return groups, gains, resampled


def independent(values, count=4000, seed=7):
    """Return the percentile bootstrap of a mean, by drawing indices."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(count)]
    return np.quantile(means, (0.025, 0.975))


def test_intervals_agree_with_an_independent_bootstrap_and_the_normal_one(tmp_path):
    values = RNG.random(24)
    groups, _gains, resampled = prepared([ratio_run(tmp_path / "a", values)])
    found = np.array(resampled[groups[0].label].interval(KEY))
    assert found == pytest.approx(independent(values), abs=0.01)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found == pytest.approx([values.mean() - half, values.mean() + half], abs=0.01)


def test_pixels_are_pooled_within_each_resample(tmp_path):
    errors, pixels = RNG.random(20) * 100, RNG.integers(50, 150, 20)
    images = {"semseg/mIoU": np.stack([errors, pixels], 1).tolist()}
    groups, _gains, resampled = prepared(
        [make_run(tmp_path / "a", {"semseg": {"mIoU": errors.sum() / pixels.sum()}}, images=images)]
    )
    rng = np.random.default_rng(3)
    draws = [rng.integers(0, 20, 20) for _ in range(4000)]
    expected = np.quantile([errors[i].sum() / pixels[i].sum() for i in draws], (0.025, 0.975))
    assert np.array(resampled[groups[0].label].interval(KEY)) == pytest.approx(expected, abs=0.01)


def test_differences_are_paired(tmp_path):
    values = RNG.random(24)
    runs = [ratio_run(tmp_path / "a", values + 0.01), ratio_run(tmp_path / "b", values, {"model.width": 1})]
    groups, gains, resampled = prepared(runs)
    (difference,) = differences(groups, gains, resampled)
    assert difference.score == "semseg/mIoU"
    assert difference.difference == pytest.approx(0.01)
    assert (difference.low, difference.high) == pytest.approx((0.01, 0.01))  # every resample differs by the same


def test_the_gains_interval_resamples_references_too(tmp_path):
    values = RNG.random(24) + 0.5
    multi = make_run(
        tmp_path / "m",
        {"semseg": {"mIoU": float(values.mean()) * 1.1}, "depth": {"rmse": float(values.mean())}},
        images={"semseg/mIoU": sums(1.1 * values), "depth/rmse": sums(values)},
    )
    references = [
        ratio_run(tmp_path / "s", values, {"name": "s", "model.x": 1}),
        ratio_run(tmp_path / "d", values, {"name": "d", "model.x": 2}, task="depth", metric="rmse"),
    ]
    _groups, gains, resampled = prepared([multi, *references], count=200)
    assert gains["toy"].seeds[0] == pytest.approx(0.05)
    assert resampled["toy"].interval("gain") == pytest.approx((0.05, 0.05))  # 10 % and 0 % on every resample
    assert math.isnan(resampled["s"].interval("gain")[0])


def test_no_gain_interval_over_other_images_or_a_reference_of_zero(tmp_path):
    multi = make_run(
        tmp_path / "m",
        {"semseg": {"mIoU": 0.5}, "depth": {"rmse": 0.5}},
        images={"semseg/mIoU": sums([0.4, 0.6]), "depth/rmse": sums([0.5, 0.5])},
    )
    for values in ([0.5, 0.5, 0.5], [0.0, 1.0]):  # three images; a resample of the first image alone scores 0
        references = [
            ratio_run(tmp_path / f"s{len(values)}", values, {"name": "s", "model.x": 1}),
            ratio_run(
                tmp_path / f"d{len(values)}", [0.5, 0.5], {"name": "d", "model.x": 2}, task="depth", metric="rmse"
            ),
        ]
        _groups, gains, resampled = prepared([multi, *references], count=200)
        assert gains["toy"].seeds
        assert math.isnan(resampled["toy"].interval("gain")[0])


def seed_runs(folder, seeds, width=0):
    """Return one run of each seed, the values of whose images are ``seeds[seed]``."""
    return [ratio_run(folder / str(s), v, {"seed": s, "model.width": width}) for s, v in seeds.items()]


def test_seeds_are_resampled_as_images_are(tmp_path):
    seeds = {s: RNG.random(24) + 0.3 * s for s in range(4)}
    (group,), _gains, resampled = prepared(seed_runs(tmp_path, seeds))
    rng = np.random.default_rng(5)
    table = np.stack(list(seeds.values()))
    means = [table[rng.integers(0, 4, 4)][:, rng.integers(0, 24, 24)].mean() for _ in range(4000)]
    expected = np.quantile(means, (0.025, 0.975))
    assert np.array(resampled[group.label].interval(KEY)) == pytest.approx(expected, abs=0.03)


def test_differences_are_paired_by_seed_in_whichever_order_runs_are_given(tmp_path):
    seeds = {s: RNG.random(24) for s in range(3)}
    better = {s: values + 0.01 for s, values in reversed(seeds.items())}
    groups, gains, resampled = prepared([*seed_runs(tmp_path / "a", better, 1), *seed_runs(tmp_path / "b", seeds)])
    (difference,) = differences(groups, gains, resampled)
    assert (difference.low, difference.high) == pytest.approx((0.01, 0.01))


def test_rows_of_other_seeds_are_not_paired_by_their_order(tmp_path):
    levels = (0.2, 0.5, 0.8)
    first, other = (
        {s: np.full(9, level) for s, level in zip(own, levels, strict=True)} for own in ((0, 1, 2), (3, 4, 5))
    )
    groups, gains, resampled = prepared([*seed_runs(tmp_path / "a", first, 1), *seed_runs(tmp_path / "b", other)])
    (difference,) = differences(groups, gains, resampled)
    rng = np.random.default_rng(5)
    means = [np.diff(np.take(levels, rng.integers(0, 3, (2, 3))).mean(1)) for _ in range(4000)]
    assert (difference.low, difference.high) == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.05)


def test_the_interval_over_seeds_is_students_and_pairs_them_by_number():
    first, second = {2: 0.7, 0: 0.5, 1: 0.65}, {0: 0.48, 1: 0.6, 2: 0.61}
    gaps = np.array([0.02, 0.05, 0.09])
    half = 4.302653 * gaps.std(ddof=1) / np.sqrt(3)  # the tables' quantile of Student's t with 2 degrees of freedom
    assert seed_interval(first, second) == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=1e-6)
    low, high = seed_interval(first, {5: 0.48, 6: 0.6, 7: 0.61})  # not paired
    assert high - low > 2.5 * half
    assert seed_interval({0: 0.25, 1: 0.5}, {0: 0.5, 1: 0.75}) == (-0.25, -0.25)
    assert np.isnan(seed_interval({0: 1.0}, {0: 0.5})).all()


def test_a_difference_has_the_interval_over_its_seeds(tmp_path):
    levels, ahead = (0.2, 0.3, 0.4), (0.03, 0.01, 0.02)
    first = {s: np.full(9, level + gap) for s, (level, gap) in enumerate(zip(levels, ahead, strict=True))}
    second = {s: np.full(9, level) for s, level in enumerate(levels)}
    groups, gains, resampled = prepared([*seed_runs(tmp_path / "a", first, 1), *seed_runs(tmp_path / "b", second)])
    (difference,) = differences(groups, gains, resampled)
    assert difference.low > 0
    assert (difference.seeds_low, difference.seeds_high) == pytest.approx((0.02 - 0.0248, 0.02 + 0.0248), abs=1e-4)


def test_seeds_are_numbers_not_texts(tmp_path):
    first = {s: RNG.random(9) for s in (2, 10)}
    better = {s: values + 0.01 for s, values in reversed(first.items())}
    groups, gains, resampled = prepared([*seed_runs(tmp_path / "a", better, 1), *seed_runs(tmp_path / "b", first)])
    (difference,) = differences(groups, gains, resampled)
    assert (difference.low, difference.high) == pytest.approx((0.01, 0.01))


def test_gains_of_resamples_are_those_of_the_formula(tmp_path):
    names = {"semseg/mIoU": True, "depth/rmse": False}
    scores = [{name: RNG.random(50) + 0.1 for name in names} for _ in range(2)]
    run = make_run(tmp_path / "a", {"semseg": {"mIoU": 0.5}, "depth": {"rmse": 0.5}})
    groups, _ = group_seeds([run])
    references = {name: Group("r", groups[0].runs) for name in names}
    done = {groups[0].label: Resampled(("a",), scores[0]), "r": Resampled(("a",), scores[1])}
    found = _resample_gain(groups[0], references, done)
    expected = [delta_m(*({n: own[n][i] for n in names} for own in scores), names) for i in range(50)]
    assert found == pytest.approx(expected)


def test_seeds_of_one_mean_share_the_resamples_of_images(tmp_path):
    values = RNG.random(24)
    (group,), _gains, resampled = prepared(seed_runs(tmp_path, {0: values, 1: 1 - values}))
    both = resampled[group.label].scores[KEY]
    assert np.isclose(both, 0.5).mean() == pytest.approx(0.5, abs=0.03)  # where each of the two was drawn once


def test_what_does_not_belong_together_gives_no_interval_and_is_named(tmp_path):
    other = ratio_run(tmp_path / "other", [0.1, 0.2])
    (other.folder.metrics).write_text(other.folder.metrics.read_text().replace("0.15", "0.9"))
    damaged = ratio_run(tmp_path / "damaged", [0.1, 0.2], {"model.width": 1})
    damaged.folder.per_image.write_bytes(b"nothing")
    unlike = [ratio_run(tmp_path / f"u{n}", [0.5] * n, {"model.width": 2, "seed": n}) for n in (2, 3)]
    plain = make_run(tmp_path / "plain", config={"model.width": 3})
    half = [
        ratio_run(tmp_path / "h0", [0.5], {"model.width": 4}),
        make_run(tmp_path / "h1", {"semseg": {"mIoU": 0.5}}, {"model.width": 4, "seed": 1}),
    ]
    groups, _ = group_seeds([read_run(other.folder.root), damaged, *unlike, plain, *half])
    gains = {group.label: find_gain(group, groups) for group in groups}
    resampled, skipped = resample(groups, gains, 10, 0)
    why = [item.reason for item in skipped]
    assert "they come from different runs" in why[0]
    assert "per_image.npz cannot be read" in why[1]
    assert "not all of its seeds have" in why[2]
    assert "not all of its seeds have" in why[3]
    assert len(why) == 4  # a run without the file is an older one
    assert resampled == {}
    assert differences(groups, gains, resampled) == []


def test_worst_images_are_those_farthest_behind(tmp_path):
    runs = [
        ratio_run(tmp_path / "a", [0.9, 0.2, 0.5, 0.4]),
        ratio_run(tmp_path / "b", [0.1, 0.3, 0.9, 0.4], {"model.width": 1}),
    ]
    groups, _gains, resampled = prepared(runs, count=10)
    first, second = worst_images(groups, resampled, 6)
    assert (first.first, first.what) == ("toy", "semseg mIoU")
    assert first.images == [("c", 0.5, 0.9), ("b", 0.2, 0.3)]
    assert second.images == [("a", 0.1, 0.9)]
    lower = [ratio_run(tmp_path / f"l{n}", [n, 1 - n], {"model.width": n}, task="depth", metric="rmse") for n in (0, 1)]
    groups, _gains, resampled = prepared(lower, count=10)
    assert worst_images(groups, resampled, 1)[0].images == [("b", 1.0, 0.0)]


@pytest.mark.parametrize(
    ("interval", "over_seeds", "word"),
    [
        ((0.1, 0.3), (np.nan, np.nan), "better"),
        ((0.1, 0.3), (0.05, 0.35), "better"),
        ((0.1, 0.3), (-0.05, 0.45), ""),
        ((-0.1, 0.3), (0.05, 0.35), ""),
        ((-0.3, -0.1), (-0.35, -0.05), "worse"),
        ((-0.3, -0.1), (-0.45, 0.05), ""),
    ],
)
def test_a_row_is_better_or_worse_only_where_both_intervals_leave_out_0(tmp_path, interval, over_seeds, word):
    groups, gains, resampled = prepared([ratio_run(tmp_path / "a", RNG.random(4))])
    pair = Difference("a", "b", "semseg/mIoU", np.mean(interval), *interval, *over_seeds)
    table = Table(1, groups, [], gains, resampled, [pair], [], [])
    assert difference_cells(table, 1).iloc[0, -1] == word
