"""Maximum matching of least total distance, for ground truths by several annotators.

Which predicted pixels a maximum matching takes is arbitrary; their number is not. With several annotators the pixels
matter, because those that any annotator confirms are counted, so ties are broken by distance, as the reference does.
Pixels are flat indices into an image with a frame at least as wide as the distance.
"""

from heapq import heappop, heappush
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtlsi_net.metrics.boundary.matching import NONE, Indices, Links, Mask, disc_offsets, flip

Potentials = NDArray[np.int64]
Whole = int | np.integer[Any]
Heap = list[tuple[np.int64, np.int64]]

STEPS = 4096
"""Distances are counted in whole steps of 1/4096 pixel, so that sums are exact."""
UNMATCHED = np.int64(1) << 40
"""Price of an unmatched predicted pixel: more than any detour that would match it."""
FAR = np.int64(1) << 60


@njit(cache=True, nogil=True)
def _cheapest(
    root: int,
    offsets: Indices,
    lengths: Potentials,
    limit: int,
    present: Mask,
    own: Potentials,
    other: Potentials,
    other_mates: Links,
    distance: Potentials,
    came_from: Links,
    touched: Links,
) -> tuple[Whole, Whole, Whole, int]:
    """Find what costs least to match ``root`` (Dijkstra's search on lengths reduced by the potentials).

    Returns:
        The cost; the unmatched pixel of the other side at the end of the path, or NONE; if NONE, the pixel of the
        root's side that is left unmatched; and the number of pixels in ``touched``.
    """
    best, end, leaver = limit - own[root], np.int64(NONE), np.int64(root)
    heap = [(np.int64(0), leaver)]
    heap.pop()
    here, walked, count = leaver, np.int64(0), 0
    while walked < best:
        base = walked - own[here]
        for k in range(offsets.size):
            there = here + offsets[k]
            if present[there]:
                reached = base + lengths[k] - other[there]
                if reached < best and reached < distance[there]:
                    if distance[there] == FAR:
                        touched[count] = there
                        count += 1
                    distance[there], came_from[there] = reached, here
                    heappush(heap, (reached, there))
        walked, end = _nearest(heap, distance, best)
        if end == NONE:
            break
        here = np.int64(other_mates[end])
        if here == NONE:
            return walked, end, leaver, count
        if walked + limit - own[here] < best:
            best, leaver = walked + limit - own[here], here
    return best, np.int64(NONE), leaver, count


@njit(cache=True, nogil=True)
def _nearest(heap: Heap, distance: Potentials, best: Whole) -> tuple[Whole, Whole]:
    """Take the nearest pixel from the heap: its distance and itself, or ``best`` and NONE if none is nearer."""
    while heap:
        reached, pixel = heappop(heap)
        if reached >= best:
            break
        if reached == distance[pixel]:  # else a shorter way was found after it had been put there
            return reached, pixel
    return best, np.int64(NONE)


@njit(cache=True, nogil=True)
def _place(
    root: int,
    offsets: Indices,
    lengths: Potentials,
    limit: int,
    present: Mask,
    own: Potentials,
    other: Potentials,
    mates: Links,
    other_mates: Links,
    distance: Potentials,
    came_from: Links,
    touched: Links,
) -> int:
    """Match ``root``, or leave it or another pixel of its side unmatched, whichever costs least; return pairs gained.

    One step of the Hungarian method, for a root of either side.

    Args:
        root: an unmatched pixel with ``own[root]`` at most ``limit`` and no reduced length below 0.
        offsets: to the neighbours.
        lengths: of the offsets.
        limit: potential of unmatched pixels on the root's side; those of the other side have the other limit.
        present: pixels of the other side.
        own: potentials of the root's side.
        other: potentials of the other side.
        mates: partner of each pixel on the root's side, or NONE.
        other_mates: partner of each pixel on the other side, or NONE.
        distance: FAR everywhere, and so again in the end; of pixels on the other side.
        came_from: room for the pixel from which one of the other side was reached.
        touched: room for the pixels reached.
    """
    best, end, leaver, count = _cheapest(
        root, offsets, lengths, limit, present, own, other, other_mates, distance, came_from, touched
    )
    own[root] += best
    for there in touched[:count]:
        gained = max(best - distance[there], 0)
        distance[there] = FAR
        other[there] -= gained
        if other_mates[there] != NONE:
            own[other_mates[there]] += gained
    gain = 1 if end != NONE else 0
    if end == NONE and leaver != root:
        end, mates[leaver] = np.int64(mates[leaver]), NONE
    flip(end, root, came_from, other_mates, mates)
    return gain


@njit(cache=True, nogil=True)
def _update(
    removed: Indices,
    added: Indices,
    offsets: Indices,
    lengths: Potentials,
    truth: Mask,
    predicted: Mask,
    value: Potentials,
    price: Potentials,
    owner: Links,
    partner: Links,
    distance: Potentials,
    came_from: Links,
    touched: Links,
) -> int:
    """Turn a cheapest maximum matching into one for a changed prediction; return by how many pairs it has grown.

    ``owner`` and ``value`` are partner and potential of predicted pixels, ``partner`` and ``price`` of true ones.
    """
    grown = 0
    for p in removed:
        predicted[p] = False
        g = owner[p]
        if g != NONE:
            owner[p], partner[g] = NONE, NONE
            grown += -1 + _place(
                g, offsets, lengths, 0, predicted, price, value, partner, owner, distance, came_from, touched
            )
    for p in added:
        predicted[p] = True
        value[p] = UNMATCHED
        for k in range(offsets.size):
            if truth[p + offsets[k]]:
                value[p] = min(value[p], lengths[k] - price[p + offsets[k]])
        grown += _place(
            p, offsets, lengths, UNMATCHED, truth, value, price, owner, partner, distance, came_from, touched
        )
    return grown


class NearestMatcher:
    """Keeps, of all maximum matchings of one ground truth and a changing prediction, one of least total distance.

    Args:
        truth: (H, W) true boundary pixels, with a frame of more than ``radius`` zeros.
        radius: largest distance of a match, in pixels.

    Attributes:
        size: pairs in the matching.
        owner: flat, the true pixel of each predicted one, or NONE.
    """

    def __init__(self, truth: Mask, radius: float) -> None:
        self.size = 0
        width = truth.shape[1]
        self.offsets = disc_offsets(radius, width)
        down = np.rint(self.offsets / width)
        self.lengths = np.rint(STEPS * np.hypot(down, self.offsets - down * width)).astype(np.int64)
        self.truth, self.predicted = truth.ravel(), np.zeros(truth.size, bool)
        self.value, self.price = np.zeros((2, truth.size), np.int64)
        self.owner, self.partner = np.full((2, truth.size), NONE, np.int32)
        self.distance = np.full(truth.size, FAR)
        self.came_from, self.touched = np.empty((2, truth.size), np.int32)

    def update(self, removed: Indices, added: Indices) -> None:
        """Take away and add flat indices of predicted pixels."""
        self.size += _update(
            removed,
            added,
            self.offsets,
            self.lengths,
            self.truth,
            self.predicted,
            self.value,
            self.price,
            self.owner,
            self.partner,
            self.distance,
            self.came_from,
            self.touched,
        )
