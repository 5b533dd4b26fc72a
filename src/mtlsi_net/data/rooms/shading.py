"""Shading of generated rooms: soft shadows, one bounce between surfaces, and highlights.

Each pixel casts one ray to each light and one into the room, all 16 pixels of a 4 x 4 tile to different sample points;
averaging over such tiles, within one surface, gives the 16-sample result everywhere at the cost of one sample.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mtlsi_net.data.rooms.exact import channel_means, cos_sin
from mtlsi_net.data.rooms.materials import Records
from mtlsi_net.data.rooms.raycast import FACES, Floats, Geometry, Ints, Vector, compiled, first_hit, unblocked
from mtlsi_net.data.rooms.solids import Light

TILE = 4
LIFT = 2e-3
"""Rays leave surfaces this far above them, metres."""
AMBIENT = 0.2
OCCLUSION_METRES = 0.7
BOUNCE_LIMIT = 1.5
HIGHLIGHT = 3.0
SOFTENING = 0.1
"""Square metres added to squared distances: lamps are no points."""
ALIKE = 0.9
"""Light is averaged over pixels whose normals' cosine is above this,"""
FLUSH_METRES = 0.02
"""and that are nearer to the tangent plane than this."""
FARTHEST = 50.0


class Samples(NamedTuple):
    """One point of the unit cube for each of N pixels: ``(cell's corner + place) / TILE`` on the first two axes.

    Each 4 x 4 tile of pixels holds each of the 16 cells once. The place in the cell is random, so that what is missed
    shows as fine grain, not as ghosts of objects.

    Attributes:
        cells: (N,) 0..15.
        places: (N, 3) in 0..1; the third is the point's third coordinate.
    """

    cells: Ints
    places: Floats


def _samples(height: int, width: int) -> Samples:
    rows, columns = np.mgrid[:height, :width]
    cells = (7 * ((rows % TILE) * TILE + columns % TILE) % TILE**2).ravel()
    return Samples(cells, np.random.default_rng(0).random((cells.size, 3)))


@compiled
def _sample(samples: Samples, n: int, number: int) -> tuple[float, float, float]:
    """Return pixel ``n``'s point of the unit cube; each ``number`` (of a light) gives the tile another order."""
    cell, place = (samples.cells[n] + 5 * number) % (TILE * TILE), samples.places[n]
    return (cell // TILE + place[0]) / TILE, (cell % TILE + place[1]) / TILE, place[2]


@dataclass(frozen=True)
class Surfaces:
    """The solids' looks: geometry, half sizes (P, 3) in metres, and one material record for each solid (P,)."""

    geometry: Geometry
    halves: Floats
    materials: Records


@compiled
def _average(values: Floats, points: Floats, normals: Floats, side: int, down: int, across: int) -> Floats:
    """Return ``values`` (H, W, C), each averaged over ``side`` pixels in a line around it that show the same surface.

    The line runs (down, across) = (1, 0) or (0, 1): both, one after the other, average over a square.
    """
    height, width, channels = values.shape
    out = np.zeros_like(values)
    for i in range(height):
        for j in range(width):
            n0, n1, n2 = normals[i, j, 0], normals[i, j, 1], normals[i, j, 2]
            level = n0 * points[i, j, 0] + n1 * points[i, j, 1] + n2 * points[i, j, 2]
            count = 0
            for step in range(-(side // 2), side - side // 2):
                r, s = i + step * down, j + step * across
                if r < 0 or s < 0 or r >= height or s >= width:
                    continue
                cosine = n0 * normals[r, s, 0] + n1 * normals[r, s, 1] + n2 * normals[r, s, 2]
                there = n0 * points[r, s, 0] + n1 * points[r, s, 1] + n2 * points[r, s, 2]
                if cosine > ALIKE and abs(there - level) < FLUSH_METRES:
                    count += 1
                    for c in range(channels):
                        out[i, j, c] += values[r, s, c]
            for c in range(channels):
                out[i, j, c] /= count
    return out


@compiled
def _arriving(to: Vector, normal: Vector, facing: Vector) -> float:
    """Return the light that a surface receives from a lamp of power 1 standing off by ``to``, facing its way or all."""
    square = to[0] * to[0] + to[1] * to[1] + to[2] * to[2]
    along = to[0] * normal[0] + to[1] * normal[1] + to[2] * normal[2]
    value = max(0.0, along) / (np.sqrt(square) * (square + SOFTENING))
    if facing[0] != 0 or facing[1] != 0 or facing[2] != 0:
        ahead = -(to[0] * facing[0] + to[1] * facing[1] + to[2] * facing[2])
        value *= max(0.0, ahead) / np.sqrt(square)
    return value


@compiled
def _direct(
    center: Floats, extent: Floats, facing: Floats, samples: Samples, number: int, points: Floats, normals: Floats
) -> tuple[Floats, Floats]:
    """Return what an unobstructed light adds at points, (N,), and the vectors to its sample points, (N, 3)."""
    value, reach = np.empty(len(points)), np.empty((len(points), 3))
    toward = (facing[0], facing[1], facing[2])
    for n in range(len(points)):
        x, y, z = _sample(samples, n, number)
        for axis in range(3):
            body = extent[axis, 0] * (2 * x - 1) + extent[axis, 1] * (2 * y - 1) + extent[axis, 2] * (2 * z - 1)
            reach[n, axis] = center[axis] + body - points[n, axis]
        to = (reach[n, 0], reach[n, 1], reach[n, 2])
        value[n] = _arriving(to, (normals[n, 0], normals[n, 1], normals[n, 2]), toward)
    return value, reach


@compiled
def _unshadowed(centers: Floats, facings: Floats, colors: Floats, points: Floats, normals: Floats) -> Floats:
    """Return the light (N, 3) at points from the middles of all lights, (L, 3) each, as if nothing stood between."""
    total = np.zeros_like(points)
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        normal = (normals[n, 0], normals[n, 1], normals[n, 2])
        for light in range(len(centers)):
            to = (centers[light, 0] - x, centers[light, 1] - y, centers[light, 2] - z)
            value = _arriving(to, normal, (facings[light, 0], facings[light, 1], facings[light, 2]))
            for c in range(3):
                total[n, c] += value * colors[light, c]
    return total


@compiled
def _add_light(
    total: Floats, lit: Ints, value: Floats, color: Floats, center: Floats, points: Floats, normals: Floats, eye: Floats
) -> None:
    """Add a light's diffuse part to total[:, :3] and its highlight to total[:, 3:] at the pixels ``lit``."""
    for n in lit:
        to2, back2, both, to_n, back_n = 0.0, 0.0, 0.0, 0.0, 0.0
        for axis in range(3):
            to, back, normal = center[axis] - points[n, axis], eye[axis] - points[n, axis], normals[n, axis]
            to2, back2, both = to2 + to * to, back2 + back * back, both + to * back
            to_n, back_n = to_n + to * normal, back_n + back * normal
        # The normal's cosine with the vector halfway between light and eye, from the products of the two.
        a, b = 1 / np.sqrt(to2), 1 / np.sqrt(back2)
        shine = max(0.0, (to_n * a + back_n * b) / np.sqrt(2 + 2 * both * a * b + 1e-9))
        # The 64th power, by squaring.
        for _ in range(6):
            shine *= shine
        for c in range(3):
            total[n, c] += value[n] * color[c]
            total[n, 3 + c] += HIGHLIGHT * value[n] * shine * color[c]


@compiled
def _hemisphere(normals: Floats, samples: Samples) -> Floats:
    """Return directions (N, 3) about normals, distributed as the cosine."""
    out = np.empty_like(normals)
    for n in range(len(normals)):
        x, y, z = normals[n]
        # An orthonormal frame from the normal, after Duff et al., "Building an orthonormal basis, revisited" (2017).
        sign = 1.0 if z >= 0 else -1.0
        a = -1.0 / (sign + z)
        b = x * y * a
        u, turn, _ = _sample(samples, n, 0)
        c, s = cos_sin(2 * np.pi * turn)
        p, q, r = np.sqrt(u) * c, np.sqrt(u) * s, np.sqrt(1.0 - u)
        out[n, 0] = p * (1.0 + sign * x * x * a) + q * b + r * x
        out[n, 1] = p * sign * b + q * (sign + y * y * a) + r * y
        out[n, 2] = -p * sign * x - q * y + r * z
    return out


def _bounce(surfaces: Surfaces, lights: list[Light], points: Floats, normals: Floats, samples: Samples) -> Floats:
    """Return light (N, 3) that reaches points from one sampled direction: bounced once, or ambient in the open."""
    away = _hemisphere(normals, samples)
    distance, face, normal = first_hit(surfaces.geometry, points, away)
    distance = np.minimum(distance, FARTHEST)
    there = points + distance[:, None] * away
    centers, facings, power = (np.array([getattr(x, name) for x in lights]) for name in ("center", "facing", "color"))
    received = _unshadowed(centers, facings, power, there, normal)
    # Spots right beside a lamp are rarely met and then very bright: without a limit they show as specks.
    mean = channel_means(received)
    received = np.minimum(received, BOUNCE_LIMIT * mean)
    colors = surfaces.materials["colors"][:, :2].mean(axis=1)
    open_share = np.minimum(distance / OCCLUSION_METRES, 1)[:, None]
    ambient = AMBIENT * mean * open_share
    return colors[np.maximum(face, 0) // FACES] * received + ambient


def light_up(
    surfaces: Surfaces, lights: list[Light], points: Floats, normals: Floats, eye: Floats, size: tuple[int, int]
) -> Floats:
    """Return (H * W, 6): diffuse light (before the surface's colour) and highlight (before its gloss), linear RGB.

    ``points`` (H * W, 3) are visible, in metres, with unit ``normals`` towards the camera, which stands at ``eye`` (3,).
    """
    lifted, samples = points + LIFT * normals, _samples(*size)
    total = np.zeros((len(points), 6))
    total[:, :3] = _bounce(surfaces, lights, lifted, normals, samples)
    for number, light in enumerate(lights, start=1):
        value, reach = _direct(light.center, light.extent, light.facing, samples, number, lifted, normals)
        lit = unblocked(surfaces.geometry, lifted, reach, np.flatnonzero(value))
        _add_light(total, lit, value, light.color, light.center, lifted, normals, eye)
    grid = (*size, -1)
    shaped = total.reshape(grid)
    # Twice: the first pass leaves steps as wide as a tile.
    for side, down in ((TILE, 1), (TILE, 0), (TILE + 1, 1), (TILE + 1, 0)):
        shaped = _average(shaped, points.reshape(grid), normals.reshape(grid), side, down, 1 - down)
    return shaped.reshape(-1, 6)
