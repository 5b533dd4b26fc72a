"""Non-maximum suppression of a soft boundary map, as SEISM's reader does it."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

Map = NDArray[np.float32]

TRIANGLE = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
SUPPRESSION = 1.01
FADE = 5


def orientation(soft: Map) -> Map:
    """Return the boundary normal's angle in [0, pi) from second derivatives of the smoothed map, (H, W).

    Smoothing sums in float64, all after it is float32: with this the reference's counts come out exactly.
    """
    double = soft.astype(np.float64)
    smooth = correlate1d(correlate1d(double, TRIANGLE, axis=0, mode="reflect"), TRIANGLE, axis=1, mode="reflect")
    dy, dx = np.gradient(smooth.astype(np.float32))
    dxx, (dyy, dxy) = np.gradient(dx, axis=1), np.gradient(dy)
    angle = np.arctan(dyy * np.sign(-dxy) / (dxx + np.float32(1e-5)))
    return angle + (angle < 0) * np.float32(np.pi)


def suppress_non_maxima(soft: Map) -> Map:
    """Return ``soft`` with zeros where a neighbour across the boundary is larger, and faded at the image border.

    Args:
        soft: (H, W) float32 in [0, 1], both sides at least 3.
    """
    angle = orientation(soft)
    return _suppress(soft, np.cos(angle), np.sin(angle), *(_fade(length) for length in soft.shape))


@njit(cache=True, nogil=True)
def _suppress(soft: Map, step_x: Map, step_y: Map, fade_rows: Map, fade_columns: Map) -> Map:
    kept = np.zeros_like(soft)
    for row in range(soft.shape[0]):
        for column in range(soft.shape[1]):
            value = soft[row, column]
            if value > 0:
                x, y = step_x[row, column], step_y[row, column]
                bound = np.float32(SUPPRESSION) * value
                if not (bound < _bilinear(soft, row, y, column, x) or bound < _bilinear(soft, row, -y, column, -x)):
                    kept[row, column] = value * fade_rows[row] * fade_columns[column]
    return kept


@njit(cache=True, nogil=True)
def _bilinear(array: Map, row: int, down: np.float32, column: int, right: np.float32) -> float:
    """Return a value beside a pixel: positions are float32, all after them is float64."""
    height, width = array.shape
    y = min(max(np.float32(row) + down, np.float32(0)), np.float32(height - 1.001))
    x = min(max(np.float32(column) + right, np.float32(0)), np.float32(width - 1.001))
    top, left = int(y), int(x)
    lower, righter = np.float64(y) - top, np.float64(x) - left
    above = array[top, left] * (1 - righter) + array[top, left + 1] * righter
    below = array[top + 1, left] * (1 - righter) + array[top + 1, left + 1] * righter
    return above * (1 - lower) + below * lower


def _fade(length: int) -> Map:
    from_border = np.minimum(np.arange(length), np.arange(length)[::-1])
    return (np.minimum(from_border, FADE) / np.float32(FADE)).astype(np.float32)
