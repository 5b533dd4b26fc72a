"""Counting of matched boundary pixels of one image at each threshold."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from mtlsi_net.core.types import Reference
from mtlsi_net.metrics.boundary.assignment import NearestMatcher
from mtlsi_net.metrics.boundary.matching import NONE, Matcher
from mtlsi_net.metrics.boundary.nms import suppress_non_maxima
from mtlsi_net.metrics.boundary.presets import Preset
from mtlsi_net.metrics.boundary.scores import Counts
from mtlsi_net.metrics.boundary.thinning import (
    BITS,
    FRAME,
    Indices,
    Mask,
    differences,
    frame,
    seg2bmap,
    set_bits,
    thin,
    thin_words,
)

HALF = 128
"""Least stored value of a boundary pixel."""


def true_boundaries(reference: Reference, preset: Preset) -> list[Mask]:
    """Return each annotator's boundary pixels, (H, W).

    Label maps become their connected regions' boundaries, thinned; stored boundaries are taken as they are, unless the
    preset treats them as a label map. Regions are 4-connected, as in SEISM's relabelling.
    """
    if reference.kind == "labels":
        regions = (label(labels, background=-1, connectivity=1) for labels in reference.maps)
        return [thin(seg2bmap(region)) for region in regions]
    if preset.truth == "boundaries_as_labels":
        return [thin(seg2bmap(stored)) for stored in reference.maps]
    return [stored >= HALF for stored in reference.maps]


def count_matches(soft: NDArray[np.uint8], truths: Sequence[Mask], preset: Preset) -> Counts:
    """Return (thresholds, 4) counts of one image: cntR, sumR, cntP, sumP, see docs/protocol/boundary.md.

    Args:
        soft: (H, W) boundary strength, trunc(255 * probability), both sides at least 3.
        truths: (H, W) boundary pixels of each annotator, at least one.
        preset: the rules.
    """
    radius = preset.max_dist * float(np.hypot(*soft.shape))
    border = max(int(radius) + 1, FRAME)
    passed = frame(thresholds_passed(soft, preset), border)
    kind = Matcher if len(truths) == 1 else NearestMatcher
    matchers = [kind(frame(truth, border), radius) for truth in truths]
    sum_truth, sum_predicted = sum(int(truth.sum()) for truth in truths), 0
    counts = np.zeros((len(preset.thresholds), 4), np.int64)
    words = np.zeros(passed.size // BITS, np.uint64)
    thinned, width = words.copy(), passed.shape[1] // BITS
    confirmed = 0
    # From few pixels to many: neighbouring thresholds have most pixels in common.
    for row, pixels in reversed(list(enumerate(_by_level(passed, len(preset.thresholds))))):
        if pixels.size:
            set_bits(words, pixels)
            before, thinned = thinned, words.copy()
            if preset.thin:
                thin_words(thinned, width)
            removed, added = differences(before, thinned)
            for matcher in matchers:
                matcher.update(removed, added)
            sum_predicted += added.size - removed.size
            confirmed = _confirmed(matchers)
        counts[row] = sum(matcher.size for matcher in matchers), sum_truth, confirmed, sum_predicted
    return counts


def _by_level(passed: NDArray[np.integer], levels: int) -> list[Indices]:
    """Return the flat indices of the pixels that pass exactly 1, 2, .. ``levels`` thresholds."""
    pixels = np.flatnonzero(passed)
    level = passed.ravel()[pixels]
    order = np.argsort(level, kind="stable")  # of small integers, a radix sort
    return np.split(pixels[order], np.cumsum(np.bincount(level, minlength=levels + 1)[1:-1]))


def _confirmed(matchers: Sequence[Matcher | NearestMatcher]) -> int:
    """Return the number of predicted pixels that any annotator's matching takes."""
    if len(matchers) == 1:
        return matchers[0].size
    return int(np.logical_or.reduce([matcher.owner != NONE for matcher in matchers]).sum())


def thresholds_passed(soft: NDArray[np.uint8], preset: Preset) -> NDArray[np.integer]:
    """Return how many of the preset's rising thresholds each pixel of an (H, W) map passes."""
    kind = np.min_scalar_type(len(preset.thresholds))
    side: Literal["left", "right"] = "left" if preset.compare == "gt" else "right"
    if not preset.nms:
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        return np.searchsorted(preset.thresholds, values.astype(np.float64), side).astype(kind)[soft]
    strength = suppress_non_maxima(soft.astype(np.float32) / np.float32(255))
    passed = np.zeros(soft.shape, kind)
    kept = strength > 0
    passed[kept] = np.searchsorted(preset.thresholds, strength[kept].astype(np.float64), side)
    return passed
