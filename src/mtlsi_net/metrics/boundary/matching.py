"""Exact maximum matching of predicted to true boundary pixels within a distance.

Pixels are flat indices into an image with a frame at least as wide as the distance, so that no neighbour falls outside.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]
Links = NDArray[np.int32]

NONE = -1


def disc_offsets(radius: float, width: int) -> Indices:
    """Return the flat offsets (rows of ``width``) with dx^2 + dy^2 <= radius^2, nearest first."""
    reach = int(radius)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    squared = dx**2 + dy**2
    inside = squared <= radius**2
    order = np.argsort(squared[inside], kind="stable")
    return (dy[inside] * width + dx[inside])[order].astype(np.int64)


class SearchBuffers(NamedTuple):
    """Neighbour offsets, and buffers of a search.

    ``came_from`` is the pixel from which each was reached; ``queue`` are pixels of the root's side, ``reached`` those
    of the other.
    """

    offsets: Indices
    came_from: Links
    queue: Links
    reached: Links


Room = SearchBuffers  # numba reads this name from the compiled files of earlier versions before it replaces them


@njit(cache=True, nogil=True)
def _search(root: int, open_: Mask, mate: Links, buffers: SearchBuffers) -> tuple[int, int]:
    """Search breadth-first for an alternating path from the unmatched ``root`` to an unmatched pixel of the other side.

    Args:
        root: where the search starts.
        open_: pixels of the other side that may be entered; those reached are closed.
        mate: pixel of the other side -> its partner, or NONE.
        buffers: filled with the pixels reached.

    Returns:
        The end of the path, or NONE, and the number of pixels in ``buffers.reached``.
    """
    queue, reached = buffers.queue, buffers.reached
    queue[0] = root
    head, tail = 0, 1
    while head < tail:
        pixel = queue[head]
        head += 1
        for offset in buffers.offsets:
            neighbour = pixel + offset
            if open_[neighbour]:
                open_[neighbour] = False
                buffers.came_from[neighbour] = pixel
                reached[tail - 1] = neighbour
                if mate[neighbour] == NONE:
                    return neighbour, tail
                queue[tail] = mate[neighbour]
                tail += 1
    return NONE, tail - 1


@njit(cache=True, nogil=True)
def flip(end: int, root: int, came_from: Links, mate: Links, root_mate: Links) -> None:
    """Match along the path in ``came_from`` from ``end`` back to ``root``; ``root_mate`` holds the partners of root's side."""
    while end != NONE:
        pixel = came_from[end]
        before = root_mate[pixel]
        root_mate[pixel], mate[end] = end, pixel
        end = before if pixel != root else NONE


@njit(cache=True, nogil=True)
def _update(
    removed: Indices, added: Indices, short: Mask, spare: Mask, partner: Links, owner: Links, buffers: SearchBuffers
) -> int:
    """Update a maximum matching for a changed prediction; return the number of pairs gained.

    ``partner[g]`` and ``owner[p]`` are the pixels matched to true pixel g and to predicted pixel p. ``short`` is a set
    of true pixels whose predicted neighbours are all matched into the set; ``spare`` are the other predicted pixels.
    While ``short`` holds every unmatched true pixel, no augmenting path exists and the matching is maximum
    (Dulmage and Mendelsohn's decomposition).

    A removed pixel leaves the set as it should be. An added pixel beside the set either finds an unmatched pixel in
    it, or shows that those it reaches are not short: they leave it. At last every unmatched true pixel outside either
    finds a spare pixel, or enters the set with all it reaches.
    """
    reached = buffers.reached
    waiting = np.empty(removed.size, np.int64)
    grown, count = 0, 0
    for p in removed:
        g = owner[p]
        spare[p] = False
        if g != NONE:
            owner[p], partner[g] = NONE, NONE
            grown -= 1
            if not short[g]:
                waiting[count] = g
                count += 1
    for p in added:
        end, size = _search(p, short, partner, buffers)
        if end == NONE:
            spare[p] = True
            for k in range(size):
                spare[partner[reached[k]]] = True
        else:
            for k in range(size):
                short[reached[k]] = True
            flip(end, p, buffers.came_from, partner, owner)
            grown += 1
    for g in waiting[:count]:
        end, size = _search(g, spare, owner, buffers)
        if end == NONE:
            short[g] = True
            for k in range(size):
                short[owner[reached[k]]] = True
        else:
            for k in range(size):
                spare[reached[k]] = True
            flip(end, g, buffers.came_from, owner, partner)
            grown += 1
    return grown


@njit(cache=True, nogil=True)
def _near(truth: Mask, offsets: Indices) -> Mask:
    near = np.zeros(truth.size, np.bool_)
    for g in np.flatnonzero(truth):
        for offset in offsets:
            near[g + offset] = True
    return near


class Matcher:
    """Keeps a maximum matching of one ground truth and a prediction that changes.

    Args:
        truth: (H, W) true boundary pixels, with a frame of more than ``radius`` zeros.
        radius: largest distance of a match, in pixels.

    Attributes:
        size: pairs in the matching.
    """

    def __init__(self, truth: Mask, radius: float) -> None:
        self.size = 0
        offsets = disc_offsets(radius, truth.shape[1])
        self.short = truth.ravel().copy()  # without a prediction all pixels are short
        self.near = _near(self.short, offsets)
        self.spare = np.zeros(truth.size, bool)
        self.partner, self.owner = np.full((2, truth.size), NONE, np.int32)
        self.buffers = SearchBuffers(offsets, *np.empty((3, truth.size), np.int32))

    def update(self, removed: Indices, added: Indices) -> None:
        """Take away and add flat indices of predicted pixels."""
        removed, added = removed[self.near[removed]], added[self.near[added]]
        self.size += _update(removed, added, self.short, self.spare, self.partner, self.owner, self.buffers)
