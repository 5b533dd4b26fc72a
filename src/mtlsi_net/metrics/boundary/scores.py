"""Boundary scores odsF, oisF and AP from counts: columns cntR, sumR, cntP, sumP (docs/protocol/boundary.md)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.types import SCORE_GROUPS, SUBSET, score_name
from mtlsi_net.metrics.boundary.presets import Preset

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

STEPS = 100
"""Interpolation steps between two thresholds in the search for the best F."""


def precision_recall(counts: Counts, zero_over_zero: bool = False) -> tuple[Floats, Floats]:
    """Return precision and recall of (..., 4) counts.

    Args:
        counts: cntR, sumR, cntP, sumP.
        zero_over_zero: count 0/0 as 0, as BSDS does. False: without truth R = 1 and P = 0, without prediction R = 0 and
            P = 1, as SEISM does. F is 0 in both.
    """
    hits_r, sum_r, hits_p, sum_p = np.moveaxis(counts.astype(np.float64), -1, 0)
    recall, precision = hits_r / np.maximum(sum_r, 1), hits_p / np.maximum(sum_p, 1)
    if not zero_over_zero:
        precision = np.where(sum_r > 0, np.where(sum_p > 0, precision, 1.0), 0.0)
        recall = np.where(sum_r > 0, recall, 1.0)
    return precision, recall


def f_measure(precision: Floats, recall: Floats) -> Floats:
    """Return the harmonic mean of precision and recall; 0 where both are 0.

    Example:
        >>> float(f_measure(np.float64(0.5), np.float64(1.0)).round(3))
        0.667
    """
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)


def best_of(counts: Counts, zero_over_zero: bool = False) -> Counts:
    """Return the (4,) counts of one image, (thresholds, 4), at its best threshold, the first of equal ones."""
    return counts[int(np.argmax(f_measure(*precision_recall(counts, zero_over_zero))))]


def average_precision(precision: Floats, recall: Floats) -> float:
    """Return the mean of precision interpolated at recalls 0, 0.01 .. 1; recalls outside the range count 0."""
    unique, first = np.unique(recall, return_index=True)
    if unique.size < 2:
        return 0.0
    sampled = np.interp(np.linspace(0, 1, 101), unique, precision[first], left=0.0, right=0.0)
    return float(sampled.sum() / 100)


def boundary_scores(total: Counts, best: Counts, thresholds: Floats, interpolate: bool = False) -> dict[str, float]:
    """Return odsF, oisF and AP of a data set, and the threshold, precision and recall of odsF.

    Args:
        total: (thresholds, 4) counts summed over images.
        best: (4,) counts summed over images, each at its own best threshold.
        thresholds: (thresholds,), rising.
        interpolate: BSDS's rules: the search for the best F includes values between thresholds, and 0/0 is 0.
    """
    precision, recall = precision_recall(total, interpolate)
    curve = np.stack([thresholds, precision, recall])
    if interpolate:
        curve = _refine(curve)
    f = f_measure(curve[1], curve[2])
    at = int(np.argmax(f))
    return {
        "odsF": float(f[at]),
        "oisF": float(f_measure(*precision_recall(best, interpolate))),
        "AP": average_precision(precision, recall),
        "threshold": float(curve[0, at]),
        "precision": float(curve[1, at]),
        "recall": float(curve[2, at]),
    }


def _refine(curve: Floats) -> Floats:
    """Return a (rows, thresholds) curve with ``STEPS`` linear steps between neighbouring thresholds."""
    share = np.linspace(0, 1, STEPS)
    between = curve[:, :-1, None] * (1 - share) + curve[:, 1:, None] * share
    return np.concatenate([curve[:, :1], between.reshape(len(curve), -1)], axis=1)


class Tally:
    """Running sums of boundary counts over images.

    Attributes:
        total: (groups, thresholds, 4) counts.
        best: (groups, 4) counts, each image at its own best threshold.
        images: (groups,) numbers of images.
    """

    def __init__(self, preset: Preset) -> None:
        self.preset, groups = preset, len(SCORE_GROUPS)
        self.total: Counts = np.zeros((groups, len(preset.thresholds), 4), np.int64)
        self.best: Counts = np.zeros((groups, 4), np.int64)
        self.images: Counts = np.zeros(groups, np.int64)

    def add(self, counts: Counts, groups: Sequence[str]) -> None:
        """Add one image's (thresholds, 4) counts to the groups that it belongs to."""
        rows = [SCORE_GROUPS.index(group) for group in groups]
        self.total[rows] += counts
        self.best[rows] += best_of(counts, self.preset.interpolate)
        self.images[rows] += 1

    def scores(self) -> dict[str, float]:
        """Return odsF, oisF, AP, threshold, precision, recall and images of every group that has images.

        Scores of other groups than the main one end in the group's name: ``odsF_partial``. The subset has only odsF.
        """
        all_scores: dict[str, float] = {}
        for row, group in enumerate(SCORE_GROUPS):
            if images := int(self.images[row]):
                thresholds = np.array(self.preset.thresholds)
                scores = boundary_scores(self.total[row], self.best[row], thresholds, self.preset.interpolate)
                if group == SUBSET:
                    scores = {"odsF": scores["odsF"]}
                all_scores |= {score_name(key, group): value for key, value in {**scores, "images": images}.items()}
        return all_scores
