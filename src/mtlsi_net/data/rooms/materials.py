"""Materials of generated rooms: random finishes, and the colour of a point of a surface.

Patterns are functions of the point in the solid's own metric frame, so that they move with the object and need no maps.
Detail finer than a pixel's footprint fades to its mean, which keeps far textures from flickering.
"""

import colorsys
from typing import Any

import numpy as np

from mtlsi_net.data.rooms.exact import cos_sin, power, tanh
from mtlsi_net.data.rooms.raycast import Floats, Ints, Vector, compiled

PLAIN, WOOD, PLANKS, TILES, STRIPES, SCENERY = range(6)

MATERIAL = np.dtype(
    [
        ("pattern", np.int64),
        ("colors", np.float64, (3, 3)),  # linear RGB: ground, figure, accent
        ("frequency", np.float64, (3,)),  # per metre, along the solid's x, y, z; 0: no variation along that axis
        ("offset", np.float64, (3,)),
        ("gloss", np.float64),  # 0 matt .. 1 polished
        ("emission", np.float64),  # radiance added, as a multiple of the colour
    ]
)
Records = np.ndarray[Any, np.dtype[np.void]]
CHANNELS = 3
GAMMA = 2.2


def linear(hsv: Vector) -> Floats:
    """Return the linear RGB colour (3,) of hue, saturation and value, all in 0..1."""
    return np.array([power(channel, GAMMA) for channel in colorsys.hsv_to_rgb(*hsv)])


def random_color(rng: np.random.Generator, value: tuple[float, float], saturation: float = 0.6) -> Floats:
    """Return a linear RGB colour in 0..1: any hue, saturation mostly well below its bound, brightness in ``value``."""
    hue, share = rng.random(), rng.random()
    return linear((hue, saturation * share * share, rng.uniform(*value)))


def wood_color(rng: np.random.Generator) -> Floats:
    """Return a linear RGB colour between pale birch and dark walnut."""
    return linear((rng.uniform(0.04, 0.11), rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.85)))


class MaterialBook:
    """Draws materials and numbers them; furniture refers to the numbers.

    Seats, beds, boxes and cabinets share their finishes on purpose: colour alone must not tell classes apart.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.records: list[Any] = []

    def table(self) -> Records:
        """Return all materials drawn so far, (M,) of dtype ``MATERIAL``."""
        return np.array(self.records, dtype=MATERIAL)

    def _add(
        self, pattern: int, colors: tuple[Floats, ...], frequency: Vector, gloss: float = 0.0, emission: float = 0.0
    ) -> int:
        record = np.zeros((), MATERIAL)
        record["pattern"], record["gloss"], record["emission"] = pattern, gloss, emission
        record["colors"] = (*colors, *[colors[-1]] * (3 - len(colors)))
        record["frequency"] = frequency
        # Half a cell along constant axes: no pattern has a line there.
        record["offset"] = np.where(record["frequency"] > 0, self.rng.uniform(0, 100, 3), 0.5)
        self.records.append(record)
        return len(self.records) - 1

    def plain(self, color: Floats | None = None, *, gloss: float = 0.1, emission: float = 0.0) -> int:
        """Return one colour, slightly uneven; any colour unless given."""
        color = random_color(self.rng, (0.15, 0.95), 0.8) if color is None else color
        return self._add(PLAIN, (color, color * self.rng.uniform(0.8, 0.97)), (2.0, 2.0, 2.0), gloss, emission)

    def wall(self) -> int:
        """Return a light, mostly textureless paint, seldom a striped or a tiled wall."""
        color = random_color(self.rng, (0.6, 0.95), 0.4)
        other = color * self.rng.uniform(0.75, 0.95)
        kind = self.rng.choice(3, p=(0.8, 0.1, 0.1))
        if kind == 0:
            return self._add(PLAIN, (color, color * self.rng.uniform(0.92, 0.99)), (0.7, 0.7, 0.7), 0.02)
        step = self.rng.uniform(3, 12)
        if kind == 1:
            return self._add(STRIPES, (color, other), (step, step, 0.0))
        return self._add(TILES, (color, color, other), (step, step, step), 0.15)

    def floor(self) -> int:
        """Return floor boards, tiles or carpet."""
        kind = self.rng.choice(3, p=(0.5, 0.2, 0.3))
        if kind == 0:
            color = wood_color(self.rng)
            frequency = (self.rng.uniform(5, 12), self.rng.uniform(0.6, 1.2), 0.0)
            turned = frequency if self.rng.random() < 0.5 else (frequency[1], frequency[0], 0.0)
            return self._add(PLANKS, (color, color * self.rng.uniform(0.5, 0.85)), turned, self.rng.uniform(0, 0.5))
        color = random_color(self.rng, (0.2, 0.85), 0.5)
        if kind == 1:
            step = self.rng.uniform(1.5, 4)
            second = color if self.rng.random() < 0.5 else random_color(self.rng, (0.2, 0.9), 0.4)
            return self._add(TILES, (color, second, color * 0.5), (step, step, 0.0), self.rng.uniform(0.1, 0.6))
        return self._add(PLAIN, (color, color * self.rng.uniform(0.6, 0.9)), (25.0, 25.0, 0.0))

    def wood(self) -> int:
        """Return grained wood."""
        color = wood_color(self.rng)
        fine, coarse = self.rng.uniform(15, 45), self.rng.uniform(1, 4)
        grain = (coarse, fine, fine) if self.rng.random() < 0.5 else (fine, fine, coarse)
        return self._add(WOOD, (color, color * self.rng.uniform(0.45, 0.8)), grain, self.rng.uniform(0, 0.4))

    def fabric(self) -> int:
        """Return woven cloth: plain, striped or checked."""
        color = random_color(self.rng, (0.2, 0.95), 0.8)
        kind = self.rng.choice(3, p=(0.65, 0.2, 0.15))
        if kind == 0:
            return self._add(PLAIN, (color, color * self.rng.uniform(0.65, 0.9)), (30.0, 30.0, 30.0))
        other, step = random_color(self.rng, (0.2, 0.95), 0.8), self.rng.uniform(4, 14)
        if kind == 1:
            return self._add(STRIPES, (color, other), (step, 0.0, 0.0) if self.rng.random() < 0.5 else (0.0, step, 0.0))
        return self._add(TILES, (color, other, color), (step, step, 0.0))

    def finish(self) -> int:
        """Return any of the finishes that furniture may have: wood, paint, or cloth-like."""
        return (self.wood, self.plain, self.fabric)[self.rng.choice(3, p=(0.5, 0.35, 0.15))]()

    def scenery(self, *, emission: float = 0.0, gloss: float = 0.3) -> int:
        """Return something pictured: a landscape or patches, for pictures, screens and views from a window."""
        sky = random_color(self.rng, (0.75, 1.0), 0.5)
        land, accent = (random_color(self.rng, (0.1, 0.8), 0.9) for _ in range(2))
        step = self.rng.uniform(1.5, 6)
        return self._add(SCENERY, (sky, land, accent), (step, 2 * step, step), gloss, emission)


@compiled
def _hash(x: int, y: int, z: int) -> float:
    """Return a number in 0..1 that looks random, the same for the same integers."""
    h = (x * 374761393 + y * 668265263 + z * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@compiled
def _noise(x: float, y: float, z: float) -> float:
    """Return smooth value noise in 0..1 with one cell for each unit."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += weight * _hash(i + a, j + b, k + c)
    return total


@compiled
def _fade(footprint: float, frequency: float) -> float:
    """Return 1 where a pattern of ``frequency`` cells a metre is resolved by the pixel, 0 where it is not."""
    return min(1.0, max(0.0, 1.6 - 2.0 * footprint * frequency))


@compiled
def _seam(x: float, width: float) -> float:
    """Return 1 on the lines at integer ``x``, ``width`` being the line's share of a cell, falling to 0 beside it."""
    away: float = abs(x - np.round(x))
    return max(0.0, 1.0 - away / width)


@compiled
def _figure(pattern: int, x: float, y: float, z: float, height: float) -> tuple[float, float]:
    """Return the shares, 0..1, of the figure and the accent colour at scaled point (x, y, z)."""
    if pattern in (PLAIN, WOOD):
        return 0.65 * _noise(x, y, z) + 0.35 * _noise(2.7 * x, 2.7 * y, 2.7 * z), 0.0
    if pattern == PLANKS:
        i, j = int(np.floor(x)), int(np.floor(y))
        seam = max(_seam(x, 0.03), _seam(y, 0.03))
        return min(1.0, 0.5 * _hash(i, j, 7) + 0.4 * _noise(3 * x, 3 * y, z) + seam), 0.0
    if pattern == TILES:
        cells = int(np.floor(x)) + int(np.floor(y)) + int(np.floor(z))
        return float(cells % 2), max(_seam(x, 0.04), max(_seam(y, 0.04), _seam(z, 0.04)))
    if pattern == STRIPES:
        return 0.5 + 0.5 * tanh(4.0 * cos_sin(2 * np.pi * (x + y))[1]), 0.0
    ground = 0.5 + 0.5 * tanh(8.0 * (0.25 * (_noise(x, y, 0.0) - 0.5) - height))
    blob = 0.7 * _noise(x + 31.0, y, z) + 0.3 * _noise(4 * x, y, 4 * z)
    return ground, min(0.8, max(0.0, 4.0 * (blob - 0.58)))


@compiled
def surface_color(
    points: Floats, solids: Ints, footprints: Floats, to_unit: Floats, halves: Floats, materials: Records
) -> Floats:
    """Return the linear RGB albedo, (N, 3) in 0..1, of ``points`` (N, 3), in the world, on ``solids`` (N,).

    A pixel is ``footprints`` (N,) metres wide on the surface. ``to_unit`` (P, 3, 4) leads from the world to the solids'
    unit frames; they have half sizes ``halves`` (P, 3), metres, and ``materials`` (P,) of dtype ``MATERIAL``.
    """
    colors = np.empty((len(points), CHANNELS))
    for n in range(len(points)):
        solid = solids[n]
        matrix, material, half = to_unit[solid], materials[solid], halves[solid]
        scaled, height, finest = np.empty(3), 0.0, 0.0
        for axis in range(3):
            unit = matrix[axis, 3]
            for i in range(3):
                unit += matrix[axis, i] * points[n, i]
            scaled[axis] = unit * half[axis] * material.frequency[axis] + material.offset[axis]
            height = unit
            finest = max(finest, material.frequency[axis])
        figure, accent = _figure(material.pattern, scaled[0], scaled[1], scaled[2], height)
        fade = _fade(footprints[n], finest)
        figure = 0.5 + fade * (figure - 0.5)
        accent = accent * fade
        for c in range(CHANNELS):
            color = material.colors[0, c] + figure * (material.colors[1, c] - material.colors[0, c])
            colors[n, c] = color + accent * (material.colors[2, c] - color)
    return colors
