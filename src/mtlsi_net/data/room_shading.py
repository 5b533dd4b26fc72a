"""Light in generated rooms: soft shadows, one bounce between surfaces, highlights, and the look of a camera.

Each pixel casts one ray to each light and one into the room, all 16 pixels of a 4 x 4 tile to different sample points;
averaging over such a tile, within one surface, gives the 16-sample result everywhere at the cost of one sample.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mtlsi_net.data.room_materials import GAMMA, surface_color
from mtlsi_net.data.room_rays import FACES, Floats, Geometry, Ints, compiled, first_hit, unblocked
from mtlsi_net.data.room_solids import Light

TILE = 4
LIFT = 2e-3
"""Rays leave surfaces this far above them, metres."""
AMBIENT = 0.2
OCCLUSION_METRES = 0.7
HIGHLIGHT = 3.0
ALIKE = 0.9
"""Light is averaged over pixels with normals of at least this cosine,"""
FLUSH_METRES = 0.02
"""and at most this far off each other's tangent plane."""
FARTHEST = 50.0
BRIGHTEST = 6.0
LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def _spread(count: int, dims: int) -> Floats:
    """Return points (count, dims) spread evenly over the unit cube (additive recurrence, our choice)."""
    root = 2.0
    for _ in range(30):
        root = (1 + root) ** (1 / (dims + 1))
    return (0.5 + np.outer(np.arange(1, count + 1), root ** -np.arange(1.0, dims + 1))) % 1


@dataclass(frozen=True)
class Surfaces:
    """The solids' looks: geometry, half sizes (P, 3) in metres, and one material record for each solid (P,)."""

    geometry: Geometry
    halves: Floats
    materials: np.ndarray[Any, Any]

    def albedo(self, points: Floats, solids: Ints, footprints: Floats) -> Floats:
        """Return the colours of points, (N, 3) linear RGB."""
        return surface_color(points, solids, footprints, self.geometry.to_unit, self.halves, self.materials)


@compiled
def _average(values: Floats, points: Floats, normals: Floats, side: int) -> Floats:
    """Return ``values`` (H, W, C), each averaged over the ``side`` x ``side`` pixels around that show the same surface."""
    height, width, channels = values.shape
    out = np.zeros_like(values)
    for i in range(height):
        for j in range(width):
            count = 0
            n0, n1, n2 = normals[i, j, 0], normals[i, j, 1], normals[i, j, 2]
            level = n0 * points[i, j, 0] + n1 * points[i, j, 1] + n2 * points[i, j, 2]
            for r in range(max(0, i - side // 2), min(height, i - side // 2 + side)):
                for s in range(max(0, j - side // 2), min(width, j - side // 2 + side)):
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
def _direct(
    center: Floats, extent: Floats, facing: Floats, samples: Floats, picks: Ints, points: Floats, normals: Floats
) -> tuple[Floats, Floats]:
    """Return what an unobstructed light adds at points, (N,), and the vectors (N, 3) to the sample points picked."""
    value, reach = np.zeros(len(points)), np.empty((len(points), 3))
    sided = facing[0] != 0 or facing[1] != 0 or facing[2] != 0
    for n in range(len(points)):
        square, along, ahead = 0.0, 0.0, 0.0
        for axis in range(3):
            to = center[axis] - points[n, axis]
            for i in range(3):
                to += extent[axis, i] * samples[picks[n], i]
            reach[n, axis] = to
            square += to * to
            along += to * normals[n, axis]
            ahead -= to * facing[axis]
        if along > 0 and (ahead > 0 or not sided):
            lobe = ahead / np.sqrt(square) if sided else 1.0
            value[n] = along / np.sqrt(square) * lobe / (square + 0.1)
    return value, reach


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
def _hemisphere(normals: Floats, samples: Floats, picks: Ints) -> Floats:
    """Return directions (N, 3) about normals, distributed as the cosine, for the samples (K, 2) in 0..1 picked."""
    out = np.empty_like(normals)
    for n in range(len(normals)):
        x, y, z = normals[n]
        # An orthonormal frame from the normal, after Duff et al., "Building an orthonormal basis, revisited" (2017).
        sign = 1.0 if z >= 0 else -1.0
        a = -1.0 / (sign + z)
        b = x * y * a
        u, angle = samples[picks[n], 0], 2 * np.pi * samples[picks[n], 1]
        p, q, r = np.sqrt(u) * np.cos(angle), np.sqrt(u) * np.sin(angle), np.sqrt(1.0 - u)
        out[n, 0] = p * (1.0 + sign * x * x * a) + q * b + r * x
        out[n, 1] = p * sign * b + q * (sign + y * y * a) + r * y
        out[n, 2] = -p * sign * x - q * y + r * z
    return out


def _bounce(
    surfaces: Surfaces, lights: list[Light], points: Floats, normals: Floats, samples: Floats, picks: Ints
) -> Floats:
    """Return light (N, 3) that reaches points from one sampled direction: bounced once, or ambient in the open."""
    away = _hemisphere(normals, samples, picks)
    distance, face, normal = first_hit(surfaces.geometry, points, away)
    distance = np.minimum(distance, FARTHEST)
    there = points + distance[:, None] * away
    received, middle = np.zeros_like(points), np.zeros((1, 3))
    for light in lights:
        value, _ = _direct(light.center, light.extent, light.facing, middle, np.zeros_like(picks), there, normal)
        received += value[:, None] * light.color
    colors = surfaces.materials["colors"][:, :2].mean(axis=1)
    open_share = np.minimum(distance / OCCLUSION_METRES, 1)[:, None]
    ambient = AMBIENT * received.mean(axis=0) * open_share
    return colors[np.maximum(face, 0) // FACES] * received + ambient


def light_up(
    surfaces: Surfaces, lights: list[Light], points: Floats, normals: Floats, eye: Floats, size: tuple[int, int]
) -> Floats:
    """Return (H * W, 6): diffuse light (before the surface's colour) and highlight (before its gloss), linear RGB.

    Args:
        surfaces: the scene's solids.
        lights: its lights.
        points: (H * W, 3) visible points, metres.
        normals: (H * W, 3) their unit normals, towards the camera.
        eye: (3,) the camera's position.
        size: (H, W).
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    tile = ((rows % TILE) * TILE + columns % TILE).ravel()
    lifted = points + LIFT * normals
    samples = _spread(TILE * TILE, 3)
    total = np.zeros((len(points), 6))
    total[:, :3] = _bounce(surfaces, lights, lifted, normals, samples, tile)
    for number, light in enumerate(lights):
        picks = (tile + 5 * number) % len(samples)
        value, reach = _direct(light.center, light.extent, light.facing, 2 * samples - 1, picks, lifted, normals)
        lit = unblocked(surfaces.geometry, lifted, reach, np.flatnonzero(value))
        _add_light(total, lit, value, light.color, light.center, lifted, normals, eye)
    grid = (*size, -1)
    shaped = total.reshape(grid)
    # Twice: the first pass leaves steps as wide as a tile.
    for side in (TILE, TILE - 1):
        shaped = _average(shaped, points.reshape(grid), normals.reshape(grid), side)
    return shaped.reshape(-1, 6)


def develop(radiance: Floats, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return radiance (H, W, 3) as a camera would store it: uint8 RGB.

    Exposure and white balance follow the scene, imperfectly; then vignetting, lens blur, noise and a tone curve.
    """
    height, width = radiance.shape[:2]
    radiance = radiance.astype(np.float32)
    light = np.minimum(radiance, BRIGHTEST * np.percentile(radiance, 75) + 1e-6)
    tint = light.mean(axis=(0, 1)) / light.mean()
    light *= tint ** -rng.uniform(0.3, 0.9) * np.exp(rng.normal(0, 0.04, 3)).astype(np.float32)
    key = np.exp(np.log(light @ LUMA + 1e-4).mean())
    light *= 0.32 * 2.0 ** rng.normal(0, 0.35) / key
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light /= (1 + rng.uniform(0.0, 0.35) * (x**2 + y**2) / 2)[..., None].astype(np.float32) ** 2
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.3, 0.75) * max(1.0, height / 300))
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    light += noise * np.sqrt(rng.uniform(0.0, 0.03) ** 2 * light.clip(0) + rng.uniform(0.001, 0.008) ** 2)
    # A film-like shoulder keeps lamps and windows from clipping hard.
    curve = (1 - np.exp(-1.3 * light.clip(0))) ** (1 / GAMMA)
    return (255 * curve).round().clip(0, 255).astype(np.uint8)
