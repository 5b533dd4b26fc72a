"""From counts to odsF, oisF and AP. Count columns: cntR, sumR, cntP, sumP (see the edge-evaluation page)."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class BoundaryScores(TypedDict):
    """Scores in [0, 1]; ``threshold``, ``precision`` and ``recall`` are those of odsF."""

    odsF: float
    oisF: float
    AP: float
    threshold: float
    precision: float
    recall: float


def precision_recall_f(counts: Counts) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F of (..., 4) counts; no truth: R = 1, P = 0; no prediction: R = 0, P = 1."""
    hits_r, sum_r, hits_p, sum_p = np.moveaxis(counts.astype(np.float64), -1, 0)
    recall = np.where(sum_r > 0, hits_r / np.maximum(sum_r, 1), 1.0)
    precision = np.where(sum_p > 0, hits_p / np.maximum(sum_p, 1), 1.0)
    precision = np.where(sum_r > 0, precision, 0.0)
    recall = np.where((sum_p > 0) | (sum_r == 0), recall, 0.0)
    total = precision + recall
    return precision, recall, np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)


def average_precision(precision: Floats, recall: Floats) -> float:
    """Return the mean of precision interpolated at recalls 0, 0.01 .. 1; recalls outside the range count 0."""
    unique, first = np.unique(recall, return_index=True)
    if unique.size < 2:
        return 0.0
    sampled = np.interp(np.linspace(0, 1, 101), unique, precision[first], left=0.0, right=0.0)
    return float(sampled.sum() / 100)


def boundary_scores(total: Counts, best: Counts, thresholds: Floats) -> BoundaryScores:
    """Return the scores of a data set.

    Args:
        total: (thresholds, 4) counts summed over images.
        best: (4,) counts summed over images, each at its own best threshold.
        thresholds: (thresholds,).
    """
    precision, recall, f = precision_recall_f(total)
    at = int(np.argmax(f))
    return {
        "odsF": float(f[at]),
        "oisF": float(precision_recall_f(best)[2]),
        "AP": average_precision(precision, recall),
        "threshold": float(thresholds[at]),
        "precision": float(precision[at]),
        "recall": float(recall[at]),
    }
