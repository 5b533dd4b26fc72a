"""Cameras of generated rooms: pinhole lenses of random focal length, at random positions with a varied view."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtlsi_net.data.rooms.exact import cos_sin, length
from mtlsi_net.data.rooms.raycast import FACES, Floats, Geometry, Ints, first_hit
from mtlsi_net.data.rooms.solids import Scene

TRIES = 40
PREVIEW = (18, 24)
LEAST_CLASSES, LEAST_INSTANCES = 6, 8
LARGEST_SHARE = 0.45
NEAREST_METRES = 0.5
WALL_MARGIN, FURNITURE_MARGIN = 0.25, 0.35
EYE_METRES = (1.0, 1.8)
VIEW_DEGREES = (52, 76)
"""Horizontal angles of view. These two and the rooms' sizes make scale a matter of reference objects: the floor below a
camera looks the same for every height."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Attributes:
        position: (3,) metres, in the world (x right, y into the room, z up).
        axes: (3, 3), rows right, up and forward, unit vectors.
        fx, fy: focal lengths in pixels.
        cx, cy: principal point, in pixels right of and below the centre of the first pixel.
        height, width: pixels.
    """

    position: Floats
    axes: Floats
    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int

    def directions(self, rows: Floats, columns: Floats) -> Floats:
        """Return world rays (N, 3) through pixel positions (N,), of length 1 along the optical axis."""
        x, y = (columns - self.cx) / self.fx, (self.cy - rows) / self.fy
        right, up, forward = self.axes
        return x[:, None] * right + y[:, None] * up + forward

    def resized(self, height: int, width: int) -> "Camera":
        """Return the same view at another size."""
        x, y = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return Camera(self.position, self.axes, self.fx * x, self.fy * y, cx, cy, height, width)

    def grid(self) -> Floats:
        """Return the rays through all pixel centres, (height * width, 3), row by row."""
        rows, columns = np.mgrid[: self.height, : self.width].astype(float)
        return self.directions(rows.ravel(), columns.ravel())

    def record(self) -> dict[str, Any]:
        """Return the camera as plain numbers for JSON."""
        numbers = {name: round(float(getattr(self, name)), 4) for name in ("fx", "fy", "cx", "cy")}
        pose = {"position": self.position.round(5).tolist(), "axes": self.axes.round(6).tolist()}
        return {**numbers, "height": self.height, "width": self.width, **pose}


def _axes(forward: Floats, roll: float) -> Floats:
    """Return rows right, up, forward of a camera looking along ``forward``, turned about it by ``roll`` radians."""
    forward = forward / length(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= length(right)
    up = np.cross(right, forward)
    c, s = cos_sin(roll)
    return np.stack([c * right + s * up, c * up - s * right, forward])


def _sample(rng: np.random.Generator, scene: Scene, height: int, width: int) -> Camera | None:
    """Return a camera at a free place, or None where the place drawn is taken."""
    margin = [WALL_MARGIN, WALL_MARGIN]
    at = np.array([*rng.uniform(margin, scene.room[:2] - margin), rng.uniform(*EYE_METRES)])
    low, high = scene.obstacles[:, 0] - FURNITURE_MARGIN, scene.obstacles[:, 1] + FURNITURE_MARGIN
    if ((at > low) & (at < high)).all(axis=1).any():
        return None
    # Look at an object, or roughly across the room; most photographs point slightly down.
    # Large objects are chosen more often.
    sizes = length(scene.obstacles[:, 1] - scene.obstacles[:, 0])
    chosen = rng.choice(len(sizes), p=sizes / sizes.sum())
    target = scene.obstacles[chosen].mean(axis=0) + rng.normal(0, 0.3, 3)
    across = np.array([*scene.room[:2] / 2, rng.uniform(0.5, 1.3)])
    forward = (0.5 * target + 0.5 * across if rng.random() < 0.7 else target) - at
    level = np.sqrt(forward[0] * forward[0] + forward[1] * forward[1])
    forward[2] = np.clip(forward[2], -0.6 * level, 0.15 * level)
    c, s = cos_sin(rng.uniform(*VIEW_DEGREES) * np.pi / 360)
    focal = 0.5 * c / s * width
    cx, cy = (width - 1) / 2 + rng.normal(0, 0.01) * width, (height - 1) / 2 + rng.normal(0, 0.01) * height
    return Camera(at, _axes(forward, rng.normal(0, 0.03)), focal, focal, cx, cy, height, width)


def _merit(scene: Scene, geometry: Geometry, owners: Ints, camera: Camera) -> float:
    """Return how well a view shows the room: 1 or more is good enough."""
    rays = camera.resized(*PREVIEW).grid()
    distance, face, _ = first_hit(geometry, np.tile(camera.position, (len(rays), 1)), rays)
    instances, counts = np.unique(owners[face // FACES], return_counts=True)
    seen = instances[counts > 1]
    classes = len({scene.piece.labels[i] for i in seen})
    shares = (
        classes / LEAST_CLASSES,
        len(seen) / LEAST_INSTANCES,
        LARGEST_SHARE * face.size / counts.max(),
        np.percentile(distance, 5) / NEAREST_METRES,
    )
    return float(min(shares))


def choose_camera(rng: np.random.Generator, scene: Scene, geometry: Geometry, height: int, width: int) -> Camera:
    """Return a camera inside the room, clear of furniture, that sees several classes; the best of a few tries."""
    owners = np.array([s.instance for s in scene.ordered()])
    best, merit = None, -1.0
    for _ in range(TRIES):
        camera = _sample(rng, scene, height, width)
        if camera is None:
            continue
        value = _merit(scene, geometry, owners, camera)
        if value > merit:
            best, merit = camera, value
        if merit >= 1:
            break
    if best is None:
        # So full that no place was free: stand in a corner at eye level, above most furniture.
        corner = np.array([WALL_MARGIN, WALL_MARGIN, 1.7])
        forward = np.array([*scene.room[:2] / 2, 0.8]) - corner
        cx, cy = (width - 1) / 2, (height - 1) / 2
        best = Camera(corner, _axes(forward, 0.0), 0.7 * width, 0.7 * width, cx, cy, height, width)
    return best
