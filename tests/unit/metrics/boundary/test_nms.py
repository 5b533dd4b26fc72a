import numpy as np
import pytest

from mtlsi_net.metrics.boundary.nms import orientation, suppress_non_maxima


def by_definition(soft):
    """Suppress pixel by pixel: a neighbour across the boundary, bilinear, may not be more than 1.01 times as large."""
    height, width = soft.shape
    angle = orientation(soft)
    cos, sin = np.cos(angle), np.sin(angle)
    result = np.zeros_like(soft)
    for row, column in np.ndindex(soft.shape):
        beside = []
        for sign in (1, -1):
            y = np.clip(np.float32(row) + sign * sin[row, column], np.float32(0), np.float32(height - 1.001))
            x = np.clip(np.float32(column) + sign * cos[row, column], np.float32(0), np.float32(width - 1.001))
            top, left = int(y), int(x)
            down, right = float(y) - top, float(x) - left
            pair = [soft[r, left] * (1 - right) + soft[r, left + 1] * right for r in (top, top + 1)]
            beside.append(pair[0] * (1 - down) + pair[1] * down)
        if not any(np.float32(1.01) * soft[row, column] < value for value in beside):
            fades = [np.float32(min(at, n - 1 - at, 5)) / np.float32(5) for at, n in ((row, height), (column, width))]
            result[row, column] = soft[row, column] * fades[0] * fades[1]
    return result


@pytest.mark.parametrize("size", [(3, 3), (25, 40)])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_is_the_definitions(size, seed):
    soft = np.random.default_rng(seed).random(size).astype(np.float32)
    soft[soft < 0.3] = 0
    np.testing.assert_array_equal(suppress_non_maxima(soft), by_definition(soft))


def test_angles_are_in_half_a_turn_and_in_the_quadrant_of_the_normal():
    rows, columns = np.mgrid[:40, :50].astype(np.float32)
    for degrees in (30, 60, 120, 150):
        across = (columns - 25) * np.cos(np.radians(degrees)) + (rows - 20) * np.sin(np.radians(degrees))
        angle = np.degrees(orientation(np.exp(-(across**2) / 20).astype(np.float32)))
        assert angle.min() >= 0
        assert angle.max() <= 180
        assert (angle[20, 25] > 90) == (degrees > 90)
