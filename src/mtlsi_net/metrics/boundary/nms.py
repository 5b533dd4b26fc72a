"""Non-maximum suppression of a soft boundary map, as SEISM's reader does it."""

import numpy as np
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
    (_, dxx), (dyy, dxy) = np.gradient(dx), np.gradient(dy)
    return np.mod(np.arctan(dyy * np.sign(-dxy) / (dxx + np.float32(1e-5))), np.float32(np.pi))


def suppress_non_maxima(soft: Map) -> Map:
    """Return ``soft`` with zeros where a neighbour across the boundary is larger, and faded at the image border.

    Args:
        soft: (H, W) float32 in [0, 1], both sides at least 3.
    """
    height, width = soft.shape
    angle = orientation(soft)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    step_x, step_y = np.cos(angle), np.sin(angle)
    kept = np.ones(soft.shape, bool)
    for sign in (1, -1):
        beside = _bilinear(soft, rows + sign * step_y, columns + sign * step_x)
        kept &= ~(np.float32(SUPPRESSION) * soft < beside)
    return np.where(kept, soft, np.float32(0)) * _fade(height)[:, None] * _fade(width)[None, :]


def _bilinear(array: Map, rows: Map, columns: Map) -> Map:
    height, width = array.shape
    rows = rows.clip(0, np.float32(height - 1.001))
    columns = columns.clip(0, np.float32(width - 1.001))
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = rows - top, columns - left
    upper = array[top, left] * (1 - right) + array[top, left + 1] * right
    lower = array[top + 1, left] * (1 - right) + array[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _fade(length: int) -> Map:
    from_border = np.minimum(np.arange(length), np.arange(length)[::-1])
    return (np.minimum(from_border, FADE) / np.float32(FADE)).astype(np.float32)
