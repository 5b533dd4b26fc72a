"""From sums over images to pooled scores: the formulas of the main metrics, for one or many sums at a time.

What an image contributes adds up, so any choice of images (all, a resample, a single one) is scored from its sum.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.metrics.boundary.scores import boundary_scores, f_measure, precision_recall

Sums = NDArray[np.integer | np.floating]
Values = NDArray[np.float64]

BETA_SQUARED = 0.3
"""Of the saliency F-measure (protocol page, section 5.3)."""


def ratio(sums: Sums) -> Values:
    """Return a / b of (..., 2) sums a, b; NaN without any b."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan), np.float64)


def root_ratio(sums: Sums) -> Values:
    """Return sqrt(a / b) of (..., 2) sums a, b; NaN without any b."""
    return np.asarray(np.sqrt(ratio(sums)), np.float64)


def mean_ratio(sums: Sums) -> Values:
    """Return the mean over K of a / b of (..., K, 2) sums, b = 0 counting as 0; NaN if all are."""
    each = sums[..., 0] / np.maximum(sums[..., 1], 1)
    return np.where((sums[..., 1] > 0).any(-1), each.mean(-1), np.nan)


def saliency_f(sums: Sums) -> Values:
    """Return F = 1.3 P R / (0.3 P + R) at each threshold, (..., L - 1), of (..., 2, L) negatives and positives by level.

    0 where P or R has no value or both are 0.
    """
    reached = np.flip(np.flip(sums, -1).cumsum(-1), -1)[..., 1:].astype(np.float64)
    hits, predicted, labelled = reached[..., 1, :], reached.sum(-2), sums[..., 1, :].sum(-1)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hits / predicted, hits / labelled
        f = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    return np.nan_to_num(f)


def max_f(sums: Sums) -> Values:
    """Return the best ``saliency_f``; NaN without any pixel."""
    return np.where(sums.sum((-1, -2)) > 0, saliency_f(sums).max(-1), np.nan)


def best_f(sums: Sums) -> Values:
    """Return the best F over thresholds of (..., T, 4) boundary counts, SEISM's rules; NaN without any pixel."""
    f = f_measure(*precision_recall(np.asarray(sums))).max(-1)
    return np.where(sums.sum((-1, -2)) > 0, f, np.nan)


def best_f_between(sums: Sums) -> Values:
    """Return the same with BSDS's rules: the best F is sought between thresholds too."""
    flat = sums.reshape(-1, *sums.shape[-2:])
    positions = np.arange(sums.shape[-2], dtype=np.float64)  # which threshold is best is of no interest here
    f = [boundary_scores(one, one[0], positions, True)["odsF"] if one.any() else np.nan for one in flat]
    return np.asarray(f, np.float64).reshape(sums.shape[:-2])


POOLINGS: dict[str, Callable[[Sums], Values]] = {
    function.__name__: function for function in (ratio, root_ratio, mean_ratio, max_f, best_f, best_f_between)
}
"""Name, as run folders keep it -> formula."""
