"""Thinning to one-pixel lines, and boundaries of a label map."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def _deletable() -> NDArray[np.bool_]:
    """Return, for each sub-iteration and 8-neighbourhood code, whether Guo and Hall's conditions delete the pixel.

    Bit k of the code is neighbour k counter-clockwise from east: E, NE, N, NW, W, SW, S, SE.
    """
    table = np.zeros((2, 256), bool)
    for code in range(256):
        x = [bool(code >> k & 1) for k in range(8)]
        crossings = sum(not x[2 * i] and (x[2 * i + 1] or x[(2 * i + 2) % 8]) for i in range(4))
        one = sum(x[2 * k] or x[2 * k + 1] for k in range(4))
        other = sum(x[2 * k + 1] or x[(2 * k + 2) % 8] for k in range(4))
        if crossings == 1 and 2 <= min(one, other) <= 3:
            table[0, code] = not ((x[1] or x[2] or not x[7]) and x[0])
            table[1, code] = not ((x[5] or x[6] or not x[3]) and x[4])
    return table


DELETABLE = _deletable()


@njit(cache=True, nogil=True)
def _thin(padded: Mask, pixels: NDArray[np.int64], width: int, deletable: NDArray[np.bool_]) -> None:
    """Thin the flat, zero-bordered map ``padded`` (rows of ``width``) in place; ``pixels`` lists its foreground."""
    count = pixels.size
    doomed = np.empty(count, np.int64)
    changed = True
    while changed:
        changed = False
        for half in range(2):
            marked = 0
            for k in range(count):
                p = pixels[k]
                code = (
                    padded[p + 1]
                    | padded[p - width + 1] << 1
                    | padded[p - width] << 2
                    | padded[p - width - 1] << 3
                    | padded[p - 1] << 4
                    | padded[p + width - 1] << 5
                    | padded[p + width] << 6
                    | padded[p + width + 1] << 7
                )
                if deletable[half, code]:
                    doomed[marked] = p
                    marked += 1
            for k in range(marked):
                padded[doomed[k]] = False
            if marked:
                changed = True
                kept = 0
                for k in range(count):
                    if padded[pixels[k]]:
                        pixels[kept] = pixels[k]
                        kept += 1
                count = kept


def thin(mask: Mask) -> Mask:
    """Return the (H, W) mask thinned to convergence; equals ``skimage.morphology.thin``."""
    padded = np.pad(mask, 1)
    flat = padded.ravel()
    _thin(flat, np.flatnonzero(flat), padded.shape[1], DELETABLE)
    return padded[1:-1, 1:-1]


def seg2bmap(labels: NDArray[np.generic]) -> Mask:
    """Return where an (H, W) label map differs from its right, lower or lower-right neighbour."""
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    boundary[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return boundary
