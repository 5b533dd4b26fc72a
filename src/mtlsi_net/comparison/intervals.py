"""Paired bootstrap over images: what other images of the same kind might have shown of the same networks."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import numpy as np

from mtlsi_net.comparison.gains import Gain, gain_of
from mtlsi_net.comparison.groups import Group, Key
from mtlsi_net.comparison.runs import Left, Run
from mtlsi_net.metrics.pooling import Values
from mtlsi_net.tasks.image_sums import ImageSums, read_image_sums
from mtlsi_net.utils.errors import UserError

LEVEL = 0.95
TOLERANCE = 1e-4
"""Relative distance from the score in metrics.json at which sums over images are taken for another run's; rounding stays
far below it."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of one group, over images.

    Attributes:
        scores: of its mean scores over seeds.
        gain: of its gain; NaN where it has none, or its references were scored on other images.
    """

    scores: dict[Key, Interval] = field(default_factory=dict)
    gain: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class Difference:
    """How far ``first`` is ahead of ``second`` on the same images: in score, whichever way is better, or in gain."""

    first: str
    second: str
    what: str
    value: float
    interval: Interval


class Bootstrap:
    """Scores of every group on the same resamples of images.

    Args:
        count: resamples R.
        seed: of their choice; runs with equal ids meet the same resamples.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.left: list[Left] = []
        self._weights: dict[tuple[str, ...], Values] = {}
        self._scores: dict[str, dict[Key, Values]] = {}
        self._ids: dict[str, tuple[str, ...]] = {}
        self._singles: dict[str, dict[Key, Values]] = {}
        self._gains: dict[str, Values] = {}

    def add(self, group: Group) -> None:
        """Score a group on the resamples; where its files do not allow it, that is kept in ``left``."""
        found = [self._read(run) for run in group.runs]
        sums = [own for own in found if own is not None]
        if len(sums) < len(found):
            if sums:
                self.left.append(Left(group.label, "not all of its seeds keep a per_image.npz: no interval"))
            return
        ids = tuple(sums[0].ids)
        if any(tuple(own.ids) != ids for own in sums):
            self.left.append(Left(group.label, "its seeds were scored on different images: no interval"))
            return
        weights = self._resamples(ids)
        each = [own.scores(weights) for own in sums]
        keys = [key for key in each[0] if all(key in scores for scores in each)]
        self._ids[group.label] = ids
        singles = [own.image_scores() for own in sums]
        self._singles[group.label] = {_key(key): np.mean([s[key] for s in singles], axis=0) for key in keys}
        self._scores[group.label] = {_key(key): np.mean([s[key] for s in each], axis=0) for key in keys}

    def _read(self, run: Run) -> ImageSums | None:
        path = run.folder.per_image
        if not path.is_file():
            return None  # nothing wrong: older runs, and weights other than the last, have none
        try:
            found = read_image_sums(path)
            _check(run, found)
        except UserError as error:
            self.left.append(Left(run.name, f"{error}: no interval"))
            return None
        return found

    def _resamples(self, ids: tuple[str, ...]) -> Values:
        if ids not in self._weights:
            generator = np.random.default_rng(self.seed)
            drawn = generator.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), self.count)
            self._weights[ids] = drawn.astype(np.float64)
        return self._weights[ids]

    def add_gain(self, group: Group, gain: Gain) -> None:
        """Resample a group's gain, where its references were scored on the same images."""
        everyone = [group, *gain.references.values()]
        if not gain.references or len({self._ids.get(own.label) for own in everyone}) > 1:
            return
        main = {task: (task, metric) for task, (metric, _) in group.first.main.items()}
        needed = [(own, key) for task, key in main.items() for own in (group, gain.references[task])]
        if not all(key in self._scores.get(own.label, {}) for own, key in needed):
            return
        with suppress(UserError):  # a reference that scores 0 on some resample: no interval
            each = [gain_of(group, gain.references, partial(self._score, r)) for r in range(self.count)]
            self._gains[group.label] = np.array(each)

    def _score(self, resample: int, group: Group, key: Key) -> float:
        return float(self._scores[group.label][key][resample])

    def ids(self, group: Group) -> tuple[str, ...]:
        """Return the images that a group was scored on; none if its files do not tell."""
        return self._ids.get(group.label, ())

    def image_scores(self, pair: tuple[Group, Group], key: Key) -> tuple[tuple[str, ...], list[Values]]:
        """Return the ids of the images that two groups were both scored on, and each one's (N,) scores; none if unlike."""
        ids = self.ids(pair[0])
        scores = [self._singles.get(group.label, {}).get(key) for group in pair]
        found = [own for own in scores if own is not None]
        return (ids, found) if ids and ids == self.ids(pair[1]) and len(found) == len(scores) else ((), [])

    def intervals(self, group: Group) -> Intervals:
        """Return what can be said of a group."""
        scores = {key: interval(values) for key, values in self._scores.get(group.label, {}).items()}
        gains = self._gains.get(group.label)
        return Intervals(scores) if gains is None else Intervals(scores, interval(gains))

    def differences(self, groups: Sequence[Group], gains: Mapping[str, Gain]) -> list[Difference]:
        """Return the differences of all pairs of groups that were scored on the same images."""
        found = []
        for a, b in combinations(groups, 2):
            if not self.ids(a) or self.ids(a) != self.ids(b):
                continue
            ours, theirs = self._scores[a.label], self._scores[b.label]
            for key in (key for key in ours if key in theirs):
                value = a.mean(key) - b.mean(key)
                found.append(Difference(a.label, b.label, "/".join(key), value, interval(ours[key] - theirs[key])))
            if a.label in self._gains and b.label in self._gains:
                value = gains[a.label].value - gains[b.label].value
                spread = interval(self._gains[a.label] - self._gains[b.label])
                found.append(Difference(a.label, b.label, "gain", value, spread))
        return found


def interval(values: Values) -> Interval:
    """Return the central 95 % of resampled values, NaN if one of them has no value."""
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def _key(name: str) -> Key:
    task, _, metric = name.partition("/")
    return task, metric


def _check(run: Run, found: ImageSums) -> None:
    """Check that the sums give the run's scores.

    Raises:
        UserError: they do not.
    """
    for name, (value,) in found.scores(np.ones((1, len(found.ids)))).items():
        task, metric = _key(name)
        kept = run.scores.get(task, {}).get(metric)
        if kept is not None and not math.isclose(kept, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2):
            raise UserError(
                f"per_image.npz gives {name} {value:.4g}, metrics.json {kept:.4g}; they are of different runs"
            )
