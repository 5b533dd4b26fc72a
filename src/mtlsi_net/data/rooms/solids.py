"""Solids, the pieces of furniture made of them, and the scene that pieces are placed in.

Frames: world x right, y into the room, z up, metres, floor at z = 0. A piece stands on its own origin, its width along
x, its back at negative y, its front at positive y; placing turns it about the vertical axis.
"""

from dataclasses import dataclass

import numpy as np

from mtlsi_net.data.rooms.exact import cos_sin, product, transform
from mtlsi_net.data.rooms.materials import Records
from mtlsi_net.data.rooms.raycast import BOX, CYLINDER, ELLIPSOID, Floats, Geometry, Ints, Vector


@dataclass(frozen=True)
class Solid:
    """One box, ellipsoid or cylinder of a piece: ``axes`` holds its unit axes as columns, in the piece's frame."""

    shape: int
    center: Floats
    half: Floats
    axes: Floats
    material: int
    instance: int
    taper: float = 0.0
    casts: bool = True


@dataclass(frozen=True)
class Light:
    """A light of linear RGB ``color``; it is a body ``center + extent @ s`` with s in [-1, 1]^3, for soft shadows.

    ``facing`` (unit vector) sends light to one side only, with a cosine lobe (windows); zero sends it everywhere.
    """

    center: Floats
    extent: Floats
    color: Floats
    facing: Floats


def _turn(angle: float) -> Floats:
    """Return the rotation about the vertical axis by ``angle`` radians, counter-clockwise from above."""
    c, s = cos_sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def lean(angle: float) -> Floats:
    """Return the rotation about x by ``angle`` radians, which moves what is above to negative y."""
    c, s = cos_sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


class Piece:
    """A piece of furniture under construction: solids, each of the instance begun last."""

    def __init__(self) -> None:
        self.solids: list[Solid] = []
        self.labels: list[str] = []
        self.lights: list[Light] = []
        self._casts = True
        self.tops: list[tuple[Vector, Vector]] = []
        """Level rectangles, as two corners, for small objects to stand on."""

    def begin(self, label: str, *, casts: bool = True) -> "Piece":
        """Begin an instance of class ``label``; the solids added next belong to it and cast shadows or not."""
        self.labels.append(label)
        self._casts = casts
        return self

    def _add(
        self, shape: int, center: Vector, half: Vector, material: int, axes: Floats | None, taper: float, glows: bool
    ) -> None:
        turned, casts, owner = np.eye(3) if axes is None else axes, self._casts and not glows, len(self.labels) - 1
        self.solids.append(Solid(shape, np.array(center), np.array(half), turned, material, owner, taper, casts))

    def box(self, low: Vector, high: Vector, material: int) -> None:
        """Add the box between two corners."""
        a, b = np.array(low), np.array(high)
        self._add(BOX, tuple((a + b) / 2), tuple((b - a) / 2), material, None, 0.0, False)

    def leaning_box(self, center: Vector, half: Vector, material: int, angle: float) -> None:
        """Add a box leaning backwards by ``angle`` radians, its top moving to negative y."""
        self._add(BOX, center, half, material, lean(angle), 0.0, False)

    def ellipsoid(
        self, center: Vector, half: Vector, material: int, *, axes: Floats | None = None, glows: bool = False
    ) -> None:
        """Add an ellipsoid with half axes ``half``; what glows casts no shadow."""
        self._add(ELLIPSOID, center, half, material, axes, 0.0, glows)

    def cylinder(
        self, foot: Vector, radius: float, height: float, material: int, *, taper: float = 0.0, glows: bool = False
    ) -> None:
        """Add an upright cylinder standing on ``foot``; its radius shrinks by the share ``taper`` towards the top."""
        center = (foot[0], foot[1], foot[2] + height / 2)
        self._add(CYLINDER, center, (radius, radius, height / 2), material, None, taper, glows)

    def legs(self, low: Vector, high: Vector, size: float, material: int) -> None:
        """Add four square legs in the corners of the box between two corners."""
        for x in (low[0], high[0] - size):
            for y in (low[1], high[1] - size):
                self.box((x, y, low[2]), (x + size, y + size, high[2]), material)

    def absorb(self, other: "Piece", at: Vector, angle: float = 0.0) -> None:
        """Take over the instances of another piece, turned by ``angle`` and moved to ``at``."""
        turn, shift, count = _turn(angle), np.array(at), len(self.labels)
        centers = transform(turn, np.array([s.center for s in other.solids])) + shift
        turned = product(turn, np.array([s.axes for s in other.solids]))
        for s, center, axes in zip(other.solids, centers, turned, strict=True):
            self.solids.append(Solid(s.shape, center, s.half, axes, s.material, s.instance + count, s.taper, s.casts))
        self.labels += other.labels
        self.lights += [
            Light(transform(turn, x.center) + shift, product(turn, x.extent), x.color, transform(turn, x.facing))
            for x in other.lights
        ]

    def bounds(self) -> Floats:
        """Return the corners (2, 3) of the axis-aligned box around all solids."""
        low, high = _solid_bounds(self.solids)
        return np.stack([low.min(axis=0), high.max(axis=0)])

    def instance_bounds(self) -> Floats:
        """Return the corners (K, 2, 3) of the box around each instance."""
        low, high = _solid_bounds(self.solids)
        owner = np.array([s.instance for s in self.solids])
        mine = [owner == i for i in range(len(self.labels))]
        return np.array([[low[m].min(axis=0), high[m].max(axis=0)] for m in mine])


def _solid_bounds(solids: list[Solid]) -> tuple[Floats, Floats]:
    """Return the lower and upper corners, (P, 3), of boxes around the solids."""
    centers = np.array([s.center for s in solids])
    reach = transform(np.abs(np.array([s.axes for s in solids])), np.array([s.half for s in solids]))
    return centers - reach, centers + reach


@dataclass
class Scene:
    """A furnished room: everything placed, in world coordinates.

    Attributes:
        room: upper corner of the room, metres; the lower one is the origin.
        piece: all solids, instances and lights.
        materials: records of dtype ``MATERIAL`` that the solids refer to.
        obstacles: (K, 2, 3) corners of the boxes around the instances that the camera must stay clear of.
    """

    room: Floats
    piece: Piece
    materials: Records
    obstacles: Floats

    def ordered(self) -> list[Solid]:
        """Return the solids sorted by instance, the order of ``geometry`` and of face numbers."""
        return sorted(self.piece.solids, key=lambda s: s.instance)

    def geometry(self) -> Geometry:
        """Return the solids as the arrays that rays are cast against; every instance is one group."""
        solids = self.ordered()
        scaled = np.array([s.axes.T / s.half[:, None] for s in solids])
        centers = np.array([s.center for s in solids])
        shift = -transform(scaled, centers)
        first: Ints = np.searchsorted([s.instance for s in solids], np.arange(len(self.piece.labels) + 1)).astype(
            np.int64
        )
        low, high = _solid_bounds(solids)
        casts = np.array([s.casts for s in solids])
        blockers = np.flatnonzero(np.logical_or.reduceat(casts, first[:-1]))
        lows = np.minimum.reduceat(low, first[:-1]).T - 1e-6
        highs = np.maximum.reduceat(high, first[:-1]).T + 1e-6
        return Geometry(
            to_unit=np.concatenate([scaled, shift[..., None]], axis=2),
            shape=np.array([s.shape for s in solids], dtype=np.int64),
            taper=np.array([s.taper for s in solids]),
            casts=casts,
            first=first,
            blockers=blockers,
            low=np.ascontiguousarray(lows),
            high=np.ascontiguousarray(highs),
            low_blockers=np.ascontiguousarray(lows[:, blockers]),
            high_blockers=np.ascontiguousarray(highs[:, blockers]),
        )
