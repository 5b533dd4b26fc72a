"""Maximum matching of minimum total distance, for ground truth by several annotators.

Which predicted pixels a maximum matching takes is arbitrary; their number is not. With several annotators the pixels
matter, because those that any annotator confirms are counted, so ties are broken by distance, as the reference does.
Pixels are flat indices into an image with a frame at least as wide as the distance.
"""

from heapq import heappop, heappush
from typing import Any, NamedTuple

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


class Side(NamedTuple):
    """Pixels of one side, predicted or true: presence, potential, and matched pixel of the other side, or NONE."""

    present: Mask
    potential: Potentials
    mate: Links


class Search(NamedTuple):
    """Neighbour offsets with their lengths, and buffers of a search.

    ``distance`` is of pixels of the other side, FAR between searches; ``came_from`` is the pixel from which each was
    reached; ``touched`` are those reached.
    """

    offsets: Indices
    lengths: Potentials
    distance: Potentials
    came_from: Links
    touched: Links


@njit(cache=True, nogil=True)
def _cheapest(root: int, limit: int, side: Side, other: Side, search: Search) -> tuple[Whole, Whole, Whole, int]:
    """Find the cheapest way to match ``root`` (Dijkstra's algorithm on lengths reduced by the potentials).

    Returns:
        The cost; the unmatched pixel of the other side at the end of the path, or NONE; if NONE, the pixel of the
        root's side that is left unmatched; and the number of pixels in ``touched``.
    """
    best, end, left_out = limit - side.potential[root], np.int64(NONE), np.int64(root)
    heap = [(np.int64(0), left_out)]
    heap.pop()
    pixel, walked, count = left_out, np.int64(0), 0
    while walked < best:
        base = walked - side.potential[pixel]
        for k in range(search.offsets.size):
            neighbour = pixel + search.offsets[k]
            if other.present[neighbour]:
                reached = base + search.lengths[k] - other.potential[neighbour]
                if reached < best and reached < search.distance[neighbour]:
                    if search.distance[neighbour] == FAR:
                        search.touched[count] = neighbour
                        count += 1
                    search.distance[neighbour], search.came_from[neighbour] = reached, pixel
                    heappush(heap, (reached, neighbour))
        walked, end = _nearest(heap, search.distance, best)
        if end == NONE:
            break
        pixel = np.int64(other.mate[end])
        if pixel == NONE:
            return walked, end, left_out, count
        if walked + limit - side.potential[pixel] < best:
            best, left_out = walked + limit - side.potential[pixel], pixel
    return best, np.int64(NONE), left_out, count


@njit(cache=True, nogil=True)
def _nearest(heap: Heap, distance: Potentials, best: Whole) -> tuple[Whole, Whole]:
    """Take the nearest pixel from the heap: its distance and itself, or ``best`` and NONE if none is nearer."""
    while heap:
        reached, pixel = heappop(heap)
        if reached >= best:
            break
        if reached == distance[pixel]:  # outdated otherwise: a shorter path was found later
            return reached, pixel
    return best, np.int64(NONE)


@njit(cache=True, nogil=True)
def _match_root(root: int, limit: int, side: Side, other: Side, search: Search) -> int:
    """Match ``root``, or leave it or another pixel of its side unmatched, whichever costs least; return the pairs gained.

    One step of the Hungarian method, for a root of either side.

    Args:
        root: an unmatched pixel whose potential is at most ``limit``, with no reduced length below 0.
        limit: potential of unmatched pixels on the root's side; those of the other side have the other limit.
        side: the pixels of the root's side.
        other: the pixels of the other side.
        search: neighbour offsets and buffers.
    """
    best, end, left_out, count = _cheapest(root, limit, side, other, search)
    side.potential[root] += best
    for neighbour in search.touched[:count]:
        gained = max(best - search.distance[neighbour], 0)
        search.distance[neighbour] = FAR
        other.potential[neighbour] -= gained
        if other.mate[neighbour] != NONE:
            side.potential[other.mate[neighbour]] += gained
    gain = 1 if end != NONE else 0
    if end == NONE and left_out != root:
        end, side.mate[left_out] = np.int64(side.mate[left_out]), NONE
    flip(end, root, search.came_from, other.mate, side.mate)
    return gain


@njit(cache=True, nogil=True)
def _update(removed: Indices, added: Indices, truth: Side, predicted: Side, search: Search) -> int:
    """Update a cheapest maximum matching for a changed prediction; return the number of pairs gained."""
    grown = 0
    for p in removed:
        predicted.present[p] = False
        g = predicted.mate[p]
        if g != NONE:
            predicted.mate[p], truth.mate[g] = NONE, NONE
            grown += -1 + _match_root(g, 0, truth, predicted, search)
    for p in added:
        predicted.present[p] = True
        predicted.potential[p] = UNMATCHED
        for k in range(search.offsets.size):
            g = p + search.offsets[k]
            if truth.present[g]:
                predicted.potential[p] = min(predicted.potential[p], search.lengths[k] - truth.potential[g])
        grown += _match_root(p, UNMATCHED, predicted, truth, search)
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
        self.size, count, width = 0, truth.size, truth.shape[1]
        offsets = disc_offsets(radius, width)
        down = np.rint(offsets / width)
        lengths = np.rint(STEPS * np.hypot(down, offsets - down * width)).astype(np.int64)
        self.search = Search(offsets, lengths, np.full(count, FAR), *np.empty((2, count), np.int32))
        self.truth, self.predicted = (
            Side(present, np.zeros(count, np.int64), np.full(count, NONE, np.int32))
            for present in (truth.ravel(), np.zeros(count, bool))
        )
        self.owner = self.predicted.mate

    def update(self, removed: Indices, added: Indices) -> None:
        """Take away and add flat indices of predicted pixels."""
        self.size += _update(removed, added, self.truth, self.predicted, self.search)
