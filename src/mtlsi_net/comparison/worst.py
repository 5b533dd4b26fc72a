"""Single images on which two rows differ most."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtlsi_net.comparison.groups import Group, Key
from mtlsi_net.comparison.intervals import Bootstrap


class Worst(NamedTuple):
    """Images on which ``first`` is farthest behind ``second`` in a score: (id, first's, second's), the worst first."""

    first: str
    second: str
    what: str
    images: list[tuple[str, float, float]]


def find_worst(bootstrap: Bootstrap, groups: Sequence[Group], count: int) -> list[Worst]:
    """Return the ``count`` worst images of the first group that keeps them against every other, and the reverse."""
    found = []
    kept = [group for group in groups if bootstrap.ids(group)]
    for other in kept[1:]:
        for ours, theirs in ((kept[0], other), (other, kept[0])):
            keys = [(task, metric, higher) for task, (metric, higher) in ours.first.main.items()]
            for task, metric, higher in keys:
                images = _behind(bootstrap, (ours, theirs), (task, metric), higher)[:count]
                if images:
                    found.append(Worst(ours.label, theirs.label, f"{task} {metric}", images))
    return found


def _behind(bootstrap: Bootstrap, pair: tuple[Group, Group], key: Key, higher: bool) -> list[tuple[str, float, float]]:
    """Return all images on which the first of the pair is behind, by how far it is."""
    ids, values = bootstrap.image_scores(pair, key)
    if not ids:
        return []
    ours, theirs = values
    behind = (theirs - ours) if higher else (ours - theirs)
    order = np.argsort(-np.nan_to_num(behind, nan=-np.inf), kind="stable")
    return [(ids[i], float(ours[i]), float(theirs[i])) for i in order if behind[i] > 0]
