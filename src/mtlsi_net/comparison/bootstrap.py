"""Paired bootstrap over images: what other images of the same kind might have shown of the same networks.

``scipy.stats.bootstrap`` was tried (1.17.1) and not taken: it resamples one statistic of one run, while differences and
gains need the scores of all runs on the same resamples; its draws differ, and with them every published interval; and it
refuses a single image.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from mtlsi_net.comparison.gains import Gain
from mtlsi_net.comparison.identity import Group, Key
from mtlsi_net.comparison.read import Run, SkippedRun
from mtlsi_net.metrics.gain import delta_m
from mtlsi_net.metrics.pooling import Values
from mtlsi_net.tasks.image_sums import ImageSums, read_image_sums
from mtlsi_net.utils.errors import UserError

LEVEL = 0.95
TOLERANCE = 1e-4
"""Relative distance from the score in metrics.json at which sums over images are taken for another run's; rounding stays
far below it."""

Interval = tuple[float, float]
NO_INTERVAL = (math.nan, math.nan)


@dataclass(frozen=True)
class Resampled:
    """One group's scores, means over its seeds, on R resamples of its images and on each of its N images.

    Attributes:
        ids: of the images.
        scores: (task, metric) -> (R,); groups with equal ids meet the same resamples.
        image_scores: (task, metric) -> (N,), NaN where an image has no label.
        gain: (R,); None without one, or where its references were scored on other images.
    """

    ids: tuple[str, ...] = ()
    scores: dict[Key, Values] = field(default_factory=dict)
    image_scores: dict[Key, Values] = field(default_factory=dict)
    gain: Values | None = None

    def interval(self, key: Key) -> Interval:
        """Return the interval of a score, NaN if the files do not tell."""
        return interval(self.scores[key]) if key in self.scores else NO_INTERVAL

    @property
    def gain_interval(self) -> Interval:
        """The interval of the gain, NaN if it has none."""
        return NO_INTERVAL if self.gain is None else interval(self.gain)


class Difference(NamedTuple):
    """How far ``first`` is ahead of ``second`` on the same images, in score, whichever way is better, or in gain."""

    first: str
    second: str
    score: str
    difference: float
    low: float
    high: float


class WorstImages(NamedTuple):
    """Images on which ``first`` is farthest behind ``second`` in a score: (id, first's, second's), the worst first."""

    first: str
    second: str
    what: str
    images: list[tuple[str, float, float]]


def resample(
    groups: Sequence[Group], gains: Mapping[str, Gain], count: int, seed: int
) -> tuple[dict[str, Resampled], list[SkippedRun]]:
    """Return label -> scores on resamples, of the groups whose files allow it, and the others that were to have them.

    Args:
        groups: all that are compared.
        gains: by label.
        count: resamples R.
        seed: of their choice.
    """
    done: dict[str, Resampled] = {}
    skipped: list[SkippedRun] = []
    for group in groups:
        sums = _read_all(group, skipped)
        if sums:
            done[group.label] = _resample(sums, count, seed)
    for group in groups:
        if (samples := _resample_gain(group, gains[group.label], done)) is not None:
            done[group.label] = replace(done[group.label], gain=samples)
    return done, skipped


def _read_all(group: Group, skipped: list[SkippedRun]) -> list[ImageSums]:
    """Return the sums of all runs, none where they do not allow an interval; reasons go to ``skipped``."""
    sums = []
    for run in group.runs:
        if not run.folder.per_image.is_file():
            continue  # nothing wrong: older runs, and weights other than the last, have none
        try:
            sums.append(_read(run))
        except UserError as error:
            skipped.append(SkippedRun(run.name, f"{error}: no interval"))
    if not sums:
        return []
    if len(sums) < len(group.runs):
        skipped.append(SkippedRun(group.label, "not all of its seeds keep a per_image.npz: no interval"))
        return []
    if any(own.ids != sums[0].ids for own in sums):
        skipped.append(SkippedRun(group.label, "its seeds were scored on different images: no interval"))
        return []
    return sums


def _read(run: Run) -> ImageSums:
    """Return the run's sums over images.

    Raises:
        UserError: they cannot be read, or do not give the run's scores.
    """
    sums = read_image_sums(run.folder.per_image)
    for name, (value,) in sums.scores(np.ones((1, len(sums.ids)))).items():
        task, metric = _key(name)
        kept = run.scores.get(task, {}).get(metric)
        if kept is not None and not math.isclose(kept, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2):
            raise UserError(
                f"per_image.npz gives {name} {value:.4g}, metrics.json {kept:.4g}; they are of different runs"
            )
    return sums


def _resample(sums: Sequence[ImageSums], count: int, seed: int) -> Resampled:
    ids = sums[0].ids
    counts = np.random.default_rng(seed).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), count)
    weights = counts.astype(np.float64)
    scores, image_scores = [own.scores(weights) for own in sums], [own.image_scores() for own in sums]
    names = [name for name in scores[0] if all(name in own for own in scores)]
    return Resampled(
        tuple(ids),
        {_key(name): np.mean([own[name] for own in scores], axis=0) for name in names},
        {_key(name): np.mean([own[name] for own in image_scores], axis=0) for name in names},
    )


def _resample_gain(group: Group, gain: Gain, done: Mapping[str, Resampled]) -> Values | None:
    """Return the group's gain on every resample; None without one, or over references scored on other images."""
    everyone = [group, *gain.references.values()]
    if not gain.references or any(own.label not in done for own in everyone):
        return None
    own, keys = done[group.label], {task: (task, metric) for task, (metric, _) in group.first.main.items()}
    others = {task: done[reference.label] for task, reference in gain.references.items()}
    if any(other.ids != own.ids for other in others.values()):
        return None
    if not all(key in own.scores and key in others[task].scores for task, key in keys.items()):
        return None
    higher = {task: better for task, (_, better) in group.first.main.items()}
    ours = pd.DataFrame({task: own.scores[key] for task, key in keys.items()}).to_dict("records")
    theirs = pd.DataFrame({task: others[task].scores[key] for task, key in keys.items()}).to_dict("records")
    try:
        return np.array([delta_m(*scores, higher) for scores in zip(ours, theirs, strict=True)])
    except UserError:  # a reference that scores 0 on some resample
        return None


def differences(
    groups: Sequence[Group], gains: Mapping[str, Gain], resampled: Mapping[str, Resampled]
) -> list[Difference]:
    """Return the differences of all pairs of groups that were scored on the same images."""
    found = []
    for a, b in combinations((group for group in groups if group.label in resampled), 2):
        ours, theirs = resampled[a.label], resampled[b.label]
        if ours.ids != theirs.ids:
            continue
        for key in (key for key in ours.scores if key in theirs.scores):
            limits = interval(ours.scores[key] - theirs.scores[key])
            found.append(Difference(a.label, b.label, "/".join(key), a.mean(key) - b.mean(key), *limits))
        if ours.gain is not None and theirs.gain is not None:
            value = gains[a.label].value - gains[b.label].value
            found.append(Difference(a.label, b.label, "gain", value, *interval(ours.gain - theirs.gain)))
    return found


def worst_images(groups: Sequence[Group], resampled: Mapping[str, Resampled], count: int) -> list[WorstImages]:
    """Return the ``count`` worst images of the first group that keeps them against every other, and the reverse."""
    kept = [group for group in groups if group.label in resampled]
    found = []
    for pair in (pair for other in kept[1:] for pair in ((kept[0], other), (other, kept[0]))):
        ours, theirs = (resampled[group.label] for group in pair)
        for task, (metric, higher) in pair[0].first.main.items():
            key = (task, metric)
            if ours.ids != theirs.ids or key not in ours.image_scores.keys() & theirs.image_scores.keys():
                continue
            a, b = ours.image_scores[key], theirs.image_scores[key]
            behind = b - a if higher else a - b
            order = np.argsort(-np.nan_to_num(behind, nan=-np.inf), kind="stable")
            images = [(ours.ids[i], float(a[i]), float(b[i])) for i in order[:count] if behind[i] > 0]
            if images:
                found.append(WorstImages(pair[0].label, pair[1].label, f"{task} {metric}", images))
    return found


def interval(values: Values) -> Interval:
    """Return the central 95 % of resampled values, NaN if one of them has no value."""
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def _key(name: str) -> Key:
    task, _, metric = name.partition("/")
    return task, metric
