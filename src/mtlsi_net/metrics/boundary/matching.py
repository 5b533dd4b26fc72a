"""Exact maximum matching of predicted to true boundary pixels within a distance."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


def disc_offsets(radius: float, width: int) -> Indices:
    """Return the flat offsets (rows of ``width``) with dx^2 + dy^2 <= radius^2, nearest first."""
    reach = int(radius)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    squared = dx**2 + dy**2
    inside = squared <= radius**2
    order = np.argsort(squared[inside], kind="stable")
    return (dy[inside] * width + dx[inside])[order].astype(np.int64)


@njit(cache=True, nogil=True)
def _match(predicted: Mask, truth: Indices, offsets: Indices, partner: Indices, owner: Indices) -> int:
    """Extend a matching to a maximum one; return its size.

    partner[g] is the pixel matched to true pixel number g, owner[p] the true pixel matched to pixel p; -1 is none.
    """
    for g in range(truth.size):  # a warm start may hold pixels that are not predicted any more
        if partner[g] >= 0 and not predicted[partner[g]]:
            owner[partner[g]] = -1
            partner[g] = -1
    for offset in offsets:  # greedy, nearest first
        for g in range(truth.size):
            if partner[g] < 0:
                p = truth[g] + offset
                if predicted[p] and owner[p] < 0:
                    partner[g], owner[p] = p, g
    came_from = np.full(predicted.size, -1, np.int64)  # pixel -> true pixel that reached it; kept where a search failed
    queue = np.empty(truth.size, np.int64)
    touched = np.empty(predicted.size, np.int64)
    size = 0
    for root in range(truth.size):
        if partner[root] >= 0:
            size += 1
            continue
        head, tail, reached, free = 0, 1, 0, -1
        queue[0] = root
        while head < tail and free < 0:
            g = queue[head]
            head += 1
            for offset in offsets:
                p = truth[g] + offset
                if predicted[p] and came_from[p] < 0:
                    came_from[p] = g
                    touched[reached] = p
                    reached += 1
                    if owner[p] < 0:
                        free = p
                        break
                    queue[tail] = owner[p]
                    tail += 1
        if free < 0:
            continue  # the tree is dead: no later search can succeed through it
        while free >= 0:
            g = came_from[free]
            before = partner[g]
            partner[g], owner[free] = free, g
            free = before if g != root else -1
        for k in range(reached):
            came_from[touched[k]] = -1
        size += 1
    return size


class Matcher:
    """Matches predictions to one ground truth; successive predictions start from the last matching.

    Args:
        truth: (H, W) true boundary pixels.
        radius: largest distance of a match, in pixels.
    """

    def __init__(self, truth: Mask, radius: float) -> None:
        self.border = int(radius) + 1
        padded = np.pad(truth, self.border)
        self.truth = np.flatnonzero(padded).astype(np.int64)
        self.offsets = disc_offsets(radius, padded.shape[1])
        self.partner = np.full(self.truth.size, -1, np.int64)
        self.owner = np.full(padded.size, -1, np.int64)

    def count(self, predicted: Mask) -> int:
        """Return the size of a maximum matching with the (H, W) prediction."""
        padded = np.pad(predicted, self.border).ravel()
        return int(_match(padded, self.truth, self.offsets, self.partner, self.owner))
