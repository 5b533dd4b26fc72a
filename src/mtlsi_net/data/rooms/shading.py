"""Shading of generated rooms: soft shadows, one bounce between surfaces, highlights, and the look of a camera.

Each pixel casts one ray to each light and one into the room, all 16 pixels of a 4 x 4 tile to different sample points;
averaging over such tiles, within one surface, gives the 16-sample result everywhere at the cost of one sample.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.data.rooms.exact import channel_means, cos_sin, exp, log, power
from mtlsi_net.data.rooms.materials import GAMMA, Records
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
"""Light is averaged over pixels with normals of at least this cosine,"""
FLUSH_METRES = 0.02
"""and at most this far off each other's tangent plane."""
FARTHEST = 50.0
BRIGHTEST = 6.0
SHOULDER = 1.3
LUMA = 0.2126, 0.7152, 0.0722


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


@compiled
def _key(light: Floats) -> float:
    """Return the geometric mean of the luminance of ``light`` (N, 3)."""
    total = 0.0
    for n in range(len(light)):
        total += log(LUMA[0] * light[n, 0] + LUMA[1] * light[n, 1] + LUMA[2] * light[n, 2] + 1e-4)
    return exp(total / len(light))


@compiled
def _weighted(values: Floats, weights: Floats, step: int) -> Floats:
    """Return the weighted sums, (H, W - (K - 1) step), of values (H, W) that lie ``step`` columns apart, weights (K,)."""
    out = np.zeros((values.shape[0], values.shape[1] - (len(weights) - 1) * step))
    for i in range(out.shape[0]):
        for k in range(len(weights)):
            for j in range(out.shape[1]):
                out[i, j] += weights[k] * values[i, j + k * step]
    return out


def _blurred(light: Floats, sigma: float) -> Floats:
    """Return light (H, W, 3) blurred by a Gaussian of ``sigma`` pixels, mirrored at the borders."""
    reach = max(1, round(4 * sigma))
    bell = [exp(-0.5 * (k / sigma) * (k / sigma)) for k in range(-reach, reach + 1)]
    weights = np.array(bell) / sum(bell)
    wide = np.pad(light, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows = _weighted(wide.reshape(1, -1), weights, wide[0].size).reshape(len(light), -1)
    return _weighted(rows, weights, light.shape[2]).reshape(light.shape)


def _thresholds() -> Floats:
    """Return the light (255,) from which each next level is stored: a film-like shoulder, then gamma.

    The shoulder keeps lamps and windows from clipping hard.
    """
    levels = (np.arange(255) + 0.5) / 255
    return np.array([-log(1 - power(level, GAMMA)) / SHOULDER for level in levels])


THRESHOLDS = _thresholds()
BRIGHTEST_ROOT = 2.1
"""Square root of a light just beyond the last threshold."""
GUESSES = np.searchsorted(THRESHOLDS, np.linspace(0, BRIGHTEST_ROOT, 256) ** 2)
"""Levels (256,) of the lights whose square roots are 0 .. ``BRIGHTEST_ROOT``; for finding a light's level quickly."""


@compiled
def _levels(light: Floats, thresholds: Floats, guesses: Ints) -> NDArray[np.uint8]:
    """Return the number of ``thresholds`` (ascending) that each value (N,) reaches, searched from a guess."""
    levels = np.empty(len(light), dtype=np.uint8)
    last = len(guesses) - 1
    for n in range(len(light)):
        root = min(np.sqrt(max(0.0, light[n])), BRIGHTEST_ROOT)
        level = guesses[int(root * (last / BRIGHTEST_ROOT))]
        while level > 0 and light[n] < thresholds[level - 1]:
            level -= 1
        while level < len(thresholds) and light[n] >= thresholds[level]:
            level += 1
        levels[n] = level
    return levels


def develop(radiance: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return radiance (H, W, 3) as a camera would store it: uint8 RGB.

    Exposure and white balance follow the scene, imperfectly; then vignetting, lens blur, noise and a tone curve.
    """
    height, width = radiance.shape[:2]
    upper = 3 * radiance.size // 4
    light = np.minimum(radiance, BRIGHTEST * np.partition(radiance, upper, axis=None)[upper] + 1e-6)
    tint = channel_means(light.reshape(-1, 3))
    balance, gains = rng.uniform(0.3, 0.9), rng.normal(0, 0.04, 3)
    gray = (tint[0] + tint[1] + tint[2]) / 3
    light *= [exp(gain) * power(gray / channel, balance) for gain, channel in zip(gains, tint, strict=True)]
    light *= 0.28 * power(2.0, rng.normal(0, 0.35)) / _key(light.reshape(-1, 3))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    falloff = 1 + rng.uniform(0.0, 0.35) * (x * x + y * y) / 2
    light /= (falloff * falloff)[..., None]
    light = _blurred(light, rng.uniform(0.3, 0.75) * max(1.0, height / 300))
    noise = rng.normal(0.0, 1.0, light.shape)
    shot, read = rng.uniform(0.0, 0.03), rng.uniform(0.001, 0.008)
    light += noise * np.sqrt(shot * shot * light + read * read)
    return _levels(light.ravel(), THRESHOLDS, GUESSES).reshape(light.shape)
