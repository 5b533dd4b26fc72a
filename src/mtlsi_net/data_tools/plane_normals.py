"""Surface normals from a depth map, by fits of planes (our method; published label files were made otherwise)."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

RADIUS = 12
"""Half the side of the window that a plane is fitted to, in pixels."""
STEP = 3
"""Pixels between the samples in a window."""
SAME_SURFACE = 0.05
"""Largest difference from the depth at the centre, as a share of it, of samples that count."""
FEWEST_SAMPLES = 20
"""Of the 81 in a window."""
FLATTEST = 1e-3
"""Least determinant of a fit, as a share of that of as many samples all over the window: those on one line have no plane."""


class Intrinsics(NamedTuple):
    """Camera of a depth map, in pixels; (cx, cy) is counted from the centre of the first pixel."""

    fx: float
    fy: float
    cx: float
    cy: float


def fit_normals(depth: NDArray[np.float32], measured: NDArray[np.bool_], camera: Intrinsics) -> NDArray[np.float32]:
    """Return unit normals (H, W, 3), x right, y up, z to the camera; (0, 0, 0) where no plane can be fitted.

    A plane's inverse depth is linear in the pixel's position, and the noise of structured light is even in inverse depth:
    so that is what is fitted, by least squares, to the measured pixels around each pixel that are about as far away.

    Args:
        depth: (H, W) metres, 0 where missing.
        measured: (H, W), whether fits may use the depth; a pixel with a depth that was not measured has a normal, too, if
            enough pixels around it were.
        camera: of the depth map.
    """
    normals = np.zeros((*depth.shape, 3), np.float32)
    usable = np.where(measured, depth, 0).astype(np.float64)
    _fit(depth.astype(np.float64), usable, camera.fx, camera.fy, camera.cx, camera.cy, normals)
    return normals


@njit(cache=True)
def _fit(
    depth: NDArray[np.float64],
    usable: NDArray[np.float64],
    fx: float,
    fy: float,
    cx: float,
    cy: float,
    normals: NDArray[np.float32],
) -> None:
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            found, a, b, c = _plane(usable, y, x, depth[y, x])
            if not found:
                continue
            # Along the ray (u, v, 1), the plane's inverse depth is p u + q v + r; (p, q, r) points away from the camera.
            p, q, r = a * fx, b * fy, c - a * (x - cx) - b * (y - cy)
            length = (p * p + q * q + r * r) ** 0.5
            normals[y, x, 0] = -p / length
            normals[y, x, 1] = q / length
            normals[y, x, 2] = r / length


@njit(cache=True)
def _plane(usable: NDArray[np.float64], y: int, x: int, z: float) -> tuple[bool, float, float, float]:
    """Return whether a plane fits around pixel (y, x) of depth z, and a, b, c of its inverse depth a dx + b dy + c."""
    n = si = sj = sii = sjj = sij = sw = siw = sjw = 0.0
    for i in range(max(-RADIUS, (-y + STEP - 1) // STEP * STEP), min(RADIUS, usable.shape[0] - 1 - y) + 1, STEP):
        for j in range(max(-RADIUS, (-x + STEP - 1) // STEP * STEP), min(RADIUS, usable.shape[1] - 1 - x) + 1, STEP):
            other = usable[y + i, x + j]
            if other <= 0 or abs(other - z) > SAME_SURFACE * z:
                continue
            w = 1.0 / other
            n += 1.0
            si += i
            sj += j
            sii += i * i
            sjj += j * j
            sij += i * j
            sw += w
            siw += i * w
            sjw += j * w
    # Normal equations by Cramer's rule, of positions around their mean.
    if n < FEWEST_SAMPLES:
        return False, 0.0, 0.0, 0.0
    vii, vjj, vij = sii - si * si / n, sjj - sj * sj / n, sij - si * sj / n
    viw, vjw = siw - si * sw / n, sjw - sj * sw / n
    det = vii * vjj - vij * vij
    if det < FLATTEST * (n * RADIUS * RADIUS / 3) ** 2:
        return False, 0.0, 0.0, 0.0
    a, b = (vjw * vii - viw * vij) / det, (viw * vjj - vjw * vij) / det
    return True, a, b, (sw - a * sj - b * si) / n
