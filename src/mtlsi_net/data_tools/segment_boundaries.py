"""Boundaries between labelled segments (our rule; the published boundary files of NYUDv2 were made otherwise)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

WIDEST_GAP = 16
"""Width in pixels of unlabelled strips between segments that are closed: annotators leave such strips along contours."""


def segment_boundaries(segments: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return 255 at pixels whose right or lower neighbour belongs to another segment, and 0 elsewhere, (H, W).

    Unlabelled pixels first join the nearest segment that is no farther than half of ``WIDEST_GAP``; the rest, in wider
    unlabelled areas, has no boundary.

    Args:
        segments: (H, W) numbers, 0 where unlabelled.
    """
    closed = _closed(segments)
    boundary = np.zeros(segments.shape, bool)
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        boundary[here] |= (closed[here] != closed[there]) & (closed[here] > 0) & (closed[there] > 0)
    return np.where(boundary, np.uint8(255), np.uint8(0))


def _closed(segments: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the segments with narrow unlabelled strips divided among their neighbours."""
    missing = segments == 0
    if not missing.any() or missing.all():
        return segments
    distance, nearest = ndimage.distance_transform_edt(missing, return_indices=True)
    return np.where(distance <= WIDEST_GAP / 2, segments[tuple(nearest)], 0)
