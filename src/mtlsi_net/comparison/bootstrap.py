"""Paired bootstrap over images and seeds: intervals for scores, their differences and their gains.

``scipy.stats.bootstrap`` (1.17.1) is not used: it resamples one statistic of one run, while differences and gains need
the scores of all runs on the same resamples; its draws differ, which would change every interval published so far; and
it refuses a single image.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_ind, ttest_rel

from mtlsi_net.comparison.gains import Gain
from mtlsi_net.comparison.identity import Group, mean, seed_of
from mtlsi_net.comparison.read import Run, SkippedRun
from mtlsi_net.core.errors import UserError
from mtlsi_net.metrics.per_image import ImageSums, Values, read_image_sums

LEVEL = 0.95
TOLERANCE = 1e-4
"""Largest relative difference between a score in metrics.json and the same score from the sums over images; beyond it,
the two files belong to different runs. Rounding errors are far smaller."""

GAIN = "gain"
"""Name of the multi-task gain among scores ``task/metric``."""


@dataclass(frozen=True)
class Resampled:
    """One group's scores ``task/metric``, on R resamples of images and seeds, and on each of its N images.

    Groups with equal ids share the same resamples of images, and of seeds if theirs are the same.
    The gain is among ``scores`` if its references are of the same images.
    """

    ids: tuple[str, ...] = ()  # of the images
    scores: dict[str, Values] = field(default_factory=dict)  # name -> (R,)
    image_scores: dict[str, Values] = field(default_factory=dict)  # name -> (N,), NaN where an image has no label

    def interval(self, name: str) -> tuple[float, float]:
        """Return the interval of a score or of the gain, NaN if it is unknown."""
        return interval(self.scores[name]) if name in self.scores else (math.nan, math.nan)


class Difference(NamedTuple):
    """Score or gain of ``first`` minus that of ``second`` on the same images, whichever direction is better.

    ``low`` and ``high`` are of the bootstrap, ``seeds_low`` and ``seeds_high`` of ``seed_interval``.
    """

    first: str
    second: str
    score: str
    difference: float
    low: float
    high: float
    seeds_low: float
    seeds_high: float


class WorstImages(NamedTuple):
    """Images on which ``first`` is farthest behind ``second`` in a score: (id, first's, second's), the worst first."""

    first: str
    second: str
    what: str
    images: list[tuple[str, float, float]]


def resample(
    groups: Sequence[Group], gains: Mapping[str, Gain], count: int, seed: int
) -> tuple[dict[str, Resampled], list[SkippedRun]]:
    """Return label -> scores on ``count`` resamples, of the groups whose files allow it, and the runs skipped with reasons."""
    done: dict[str, Resampled] = {}
    skipped: list[SkippedRun] = []
    for group in groups:
        if sums := _read_all(group, skipped):
            done[group.label] = _resample(sums, sorted(group.seeds), count, seed)
    for group in groups:
        if (samples := _resample_gain(group, gains[group.label].references, done)) is not None:
            done[group.label].scores[GAIN] = samples
    return done, skipped


def _read_all(group: Group, skipped: list[SkippedRun]) -> list[ImageSums]:
    """Return the sums of all runs, ordered by seed, none where they do not allow an interval; reasons go to ``skipped``."""
    sums = []
    for run in sorted(group.runs, key=seed_of):
        if not run.folder.per_image.is_file():
            continue  # not an error: older runs, and weights other than the last, have none
        try:
            sums.append(_read(run))
        except UserError as error:
            skipped.append(SkippedRun(run.name, f"{error}; no interval"))
    if sums and (len(sums) < len(group.runs) or any(run_sums.ids != sums[0].ids for run_sums in sums)):
        skipped.append(
            SkippedRun(group.label, "not all of its seeds have a per_image.npz of the same images; no interval")
        )
        return []
    return sums


def _read(run: Run) -> ImageSums:
    """Return the run's sums over images; a ``UserError`` if they do not give the run's scores."""
    sums = read_image_sums(run.folder.per_image)
    for name, (value,) in sums.scores(np.ones((1, len(sums.ids)))).items():
        kept = run.scores.get(name)
        if kept is not None and not math.isclose(kept, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2):
            raise UserError(
                f"per_image.npz gives {name} {value:.4g} but metrics.json {kept:.4g}; they come from different runs"
            )
    return sums


def _resample(sums: Sequence[ImageSums], seeds: Sequence[int], count: int, seed: int) -> Resampled:
    ids = sums[0].ids
    counts = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), count)
    weights = counts.astype(np.float64)
    scores = [run_sums.scores(weights) for run_sums in sums]
    others = () if list(seeds) == list(range(len(seeds))) else seeds  # rows with other seeds are not paired by them
    drawn = np.random.default_rng((seed, len(sums), *others)).integers(len(sums), size=(count, len(sums)))
    image_scores = [run_sums.image_scores() for run_sums in sums]
    names = [name for name in scores[0] if all(name in run_scores for run_scores in scores)]
    return Resampled(
        tuple(ids),
        {name: _mean_over([run_scores[name] for run_scores in scores], drawn) for name in names},
        {name: np.mean([run_scores[name] for run_scores in image_scores], axis=0) for name in names},
    )


def _mean_over(values: Sequence[Values], seeds: npt.NDArray[np.int64]) -> Values:
    """Return the means (R,) of the runs drawn for each resample: S runs' ``values`` (R,), and their indices (R, S)."""
    means: Values = np.take_along_axis(np.stack(values, axis=1), seeds, axis=1).mean(axis=1)
    return means


def _resample_gain(group: Group, references: Mapping[str, Group], done: Mapping[str, Resampled]) -> Values | None:
    """Return the group's gain on every resample; None without one, or over references scored on other images."""
    group_samples = done.get(group.label, Resampled())
    others = {name: done.get(reference.label, Resampled()) for name, reference in references.items()}
    known = [
        other.ids == group_samples.ids and name in group_samples.scores.keys() & other.scores.keys()
        for name, other in others.items()
    ]
    if not references or not all(known):
        return None
    gains = []
    for name, other in others.items():
        reference = other.scores[name]
        if not reference.all():
            return None
        sign = 1 if group.first.main[name] else -1
        gains.append(sign * (group_samples.scores[name] - reference) / reference)
    gain: Values = np.mean(gains, axis=0)
    return gain


def differences(
    groups: Sequence[Group], gains: Mapping[str, Gain], resampled: Mapping[str, Resampled]
) -> list[Difference]:
    """Return the differences of all pairs of groups that were scored on the same images."""
    pairs = []
    for a, b in combinations((group for group in groups if group.label in resampled), 2):
        first_samples, second_samples = resampled[a.label], resampled[b.label]
        for name in first_samples.scores if first_samples.ids == second_samples.ids else ():
            if name in second_samples.scores:
                first, second = (seeds_of(group, gains, name) for group in (a, b))
                limits = interval(first_samples.scores[name] - second_samples.scores[name])
                over_seeds = seed_interval(
                    dict(zip(a.seeds, first, strict=True)), dict(zip(b.seeds, second, strict=True))
                )
                pairs.append(Difference(a.label, b.label, name, mean(first) - mean(second), *limits, *over_seeds))
    return pairs


def seed_interval(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[float, float]:
    """Return the t interval of the mean difference of two rows' values by seed, NaN if a row has only one.

    Rows with the same seeds are paired by them, others compared by Welch's t. It treats the trainings as the sample, which
    the bootstrap of three seeds makes 2.7 times too narrow.

    Example:
        >>> low, high = seed_interval({0: 0.52, 1: 0.50, 2: 0.51}, {0: 0.50, 1: 0.49, 2: 0.50})
        >>> round(low, 4), round(high, 4)
        (-0.001, 0.0277)
    """
    if min(len(first), len(second)) < 2:
        return math.nan, math.nan
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Precision loss", RuntimeWarning
        )  # equal differences are an interval of no width
        if first.keys() == second.keys():
            test = ttest_rel([first[seed] for seed in second], list(second.values()))
        else:
            test = ttest_ind(list(first.values()), list(second.values()), equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return float(low), float(high)


def seeds_of(group: Group, gains: Mapping[str, Gain], name: str) -> Sequence[float]:
    """Return each seed's score ``name`` or gain; empty if one has none."""
    return gains[group.label].seeds if name == GAIN else group.values(name)


def worst_images(groups: Sequence[Group], resampled: Mapping[str, Resampled], count: int) -> list[WorstImages]:
    """Return the ``count`` worst images of the first resampled group against every other, and the reverse."""
    kept = [group for group in groups if group.label in resampled]
    worst = []
    for pair in (pair for other in kept[1:] for pair in ((kept[0], other), (other, kept[0]))):
        first, second = (resampled[group.label] for group in pair)
        for name, higher in pair[0].first.main.items():
            if first.ids != second.ids or name not in first.image_scores.keys() & second.image_scores.keys():
                continue
            a, b = first.image_scores[name], second.image_scores[name]
            behind = b - a if higher else a - b
            order = np.argsort(-np.nan_to_num(behind, nan=-np.inf), kind="stable")
            images = [(first.ids[i], float(a[i]), float(b[i])) for i in order[:count] if behind[i] > 0]
            if images:
                worst.append(WorstImages(pair[0].label, pair[1].label, name.replace("/", " "), images))
    return worst


def interval(values: Values) -> tuple[float, float]:
    """Return the central 95 % of resampled values, NaN if one of them has no value."""
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
