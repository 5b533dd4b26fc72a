"""Ray casting against boxes, ellipsoids and (tapered) cylinders; geometry only, compiled with numba.

Every solid is an affine image of a unit solid: the box [-1, 1]^3, the unit ball, or the cylinder |z| <= 1 of radius 1
(at z = 1 the radius is 1 - taper). Rays are moved into that unit frame, where the ray parameter stays the same.
Only entry points count: rays start outside all solids (the walls of a room are boxes around it).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Vector = tuple[float, float, float]
F = TypeVar("F", bound=Callable[..., Any])

# No fastmath and no threads: the same seed must give the same bytes. "numpy" makes 1 / 0 infinity instead of an error.
compiled = cast("Callable[[F], F]", njit(cache=True, error_model="numpy"))

inlined = cast("Callable[[F], F]", njit(inline="always", error_model="numpy"))
"""For functions that take a Geometry: handing over its ten arrays costs more than they do."""

BOX, ELLIPSOID, CYLINDER = 0, 1, 2
FACES = 8
"""Face number of a hit = solid * FACES + side."""

NEAREST = 1e-7
NO_HIT = -1


class Geometry(NamedTuple):
    """The solids of a scene, ordered by group; a group (one instance) has one bounding box.

    Attributes:
        to_unit: (P, 3, 4) world point (homogeneous) to the solid's unit frame.
        shape: (P,) BOX, ELLIPSOID or CYLINDER.
        taper: (P,) of cylinders, 0..1.
        casts: (P,) whether the solid casts shadows (lamp shades do not).
        first: (G + 1,) first solid of each group; the last entry is P.
        blockers: (K,) the groups with any solid that casts shadows.
        low, high: (3, G) corners of each group's bounding box.
        low_blockers, high_blockers: (3, K) the same of the blockers.
    """

    to_unit: Floats
    shape: Ints
    taper: Floats
    casts: NDArray[np.bool_]
    first: Ints
    blockers: Ints
    low: Floats
    high: Floats
    low_blockers: Floats
    high_blockers: Floats


@inlined
def _group_entries(low: Floats, high: Floats, o: Vector, inverse: Vector, out: Floats) -> None:
    """Set out[group] to t where a ray enters each bounding box: inf without entry, negative if it starts inside.

    Written without branches over contiguous rows, so that the compiler vectorises it.
    """
    for group in range(len(out)):
        a, b = (low[0, group] - o[0]) * inverse[0], (high[0, group] - o[0]) * inverse[0]
        near, far = (a if a < b else b), (b if a < b else a)
        a, b = (low[1, group] - o[1]) * inverse[1], (high[1, group] - o[1]) * inverse[1]
        c, d = (a if a < b else b), (b if a < b else a)
        near, far = (c if c > near else near), (d if d < far else far)
        a, b = (low[2, group] - o[2]) * inverse[2], (high[2, group] - o[2]) * inverse[2]
        c, d = (a if a < b else b), (b if a < b else a)
        near, far = (c if c > near else near), (d if d < far else far)
        # Boxes behind the ray have far < 0.
        out[group] = near if (near if near > 0.0 else 0.0) <= far else np.inf


@inlined
def _box_entry(o: Vector, d: Vector) -> tuple[float, int]:
    """Return (t, side) where a ray enters the unit box, t = inf without entry; side = 2 axis + (1 at the upper face)."""
    near, far, side = -np.inf, np.inf, 0
    for axis in range(3):
        inverse = 1.0 / d[axis]
        middle, half = -o[axis] * inverse, abs(inverse)
        if middle - half > near:
            near, side = middle - half, 2 * axis + (0 if inverse >= 0 else 1)
        far = min(far, middle + half)
    return (near, side) if near <= far else (np.inf, 0)


@compiled
def _ball_entry(o: Vector, d: Vector) -> float:
    """Return t where the ray enters the unit ball, or inf."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
    root = b * b - a * c
    return (-b - np.sqrt(root)) / a if root > 0 else np.inf


@compiled
def _cylinder_entry(o: Vector, d: Vector, taper: float) -> tuple[float, int]:
    """Return (t, side) of the tapered unit cylinder: side 0 the mantle, 1 the top, 2 the bottom."""
    best, side = np.inf, 0
    q = 0.5 * taper
    p = 1.0 - q
    radius = p - q * o[2]
    a = d[0] * d[0] + d[1] * d[1] - q * q * d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + radius * q * d[2]
    root = b * b - a * (o[0] * o[0] + o[1] * o[1] - radius * radius)
    if root > 0:
        for sign in (-1.0, 1.0):
            t = (-b + sign * np.sqrt(root)) / a
            z = o[2] + t * d[2]
            # b + a t is half the derivative of the implicit function along the ray: negative where the ray enters.
            if NEAREST < t < best and abs(z) <= 1.0 and b + a * t < 0:
                best, side = t, 0
    for cap in (1.0, -1.0):
        t = (cap - o[2]) / d[2]
        if NEAREST < t < best and cap * d[2] < 0:
            x, y = o[0] + t * d[0], o[1] + t * d[1]
            rim = p - q * cap
            if x * x + y * y <= rim * rim:
                best, side = t, 1 if cap > 0 else 2
    return best, side


@inlined
def _to_unit(m: Floats, p: int, v: Vector, w: float) -> Vector:
    """Return the point (w = 1) or vector (w = 0) ``v`` in the unit frame of solid ``p``."""
    return (
        m[p, 0, 0] * v[0] + m[p, 0, 1] * v[1] + m[p, 0, 2] * v[2] + w * m[p, 0, 3],
        m[p, 1, 0] * v[0] + m[p, 1, 1] * v[1] + m[p, 1, 2] * v[2] + w * m[p, 1, 3],
        m[p, 2, 0] * v[0] + m[p, 2, 1] * v[1] + m[p, 2, 2] * v[2] + w * m[p, 2, 3],
    )


@inlined
def _entry(g: Geometry, solid: int, origin: Vector, direction: Vector) -> tuple[float, int]:
    """Return (t, side) where the ray enters one solid; t = inf without entry."""
    o, d = _to_unit(g.to_unit, solid, origin, 1.0), _to_unit(g.to_unit, solid, direction, 0.0)
    if g.shape[solid] == BOX:
        t, side = _box_entry(o, d)
    elif g.shape[solid] == ELLIPSOID:
        t, side = _ball_entry(o, d), 0
    else:
        t, side = _cylinder_entry(o, d, g.taper[solid])
    return (t, side) if t > NEAREST else (np.inf, 0)


@compiled
def _unit_normal(shape: int, taper: float, side: int, x: Vector) -> Vector:
    """Return an outward normal, of any length, of a unit solid at its point ``x``."""
    if shape == BOX:
        sign = 2.0 * (side % 2) - 1.0
        return (sign if side // 2 == 0 else 0.0, sign if side // 2 == 1 else 0.0, sign if side // 2 == 2 else 0.0)
    if shape == ELLIPSOID:
        return (x[0], x[1], x[2])
    if side > 0:
        return (0.0, 0.0, 3.0 - 2.0 * side)
    q = 0.5 * taper
    return (x[0], x[1], q * (1.0 - q - q * x[2]))


@compiled
def _normal(g: Geometry, solid: int, side: int, point: Vector) -> Vector:
    """Return the outward unit normal in the world at a ``point`` of a solid."""
    m = g.to_unit[solid]
    n = _unit_normal(g.shape[solid], g.taper[solid], side, _to_unit(g.to_unit, solid, point, 1.0))
    # Normals transform with the inverse transpose of unit-to-world, which is the transpose of world-to-unit.
    x = m[0, 0] * n[0] + m[1, 0] * n[1] + m[2, 0] * n[2]
    y = m[0, 1] * n[0] + m[1, 1] * n[1] + m[2, 1] * n[2]
    z = m[0, 2] * n[0] + m[1, 2] * n[1] + m[2, 2] * n[2]
    length = np.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@compiled
def first_hit(g: Geometry, origins: Floats, directions: Floats) -> tuple[Floats, Ints, Floats]:
    """Return what rays from ``origins`` (N, 3), outside all solids, meet first along ``directions`` (N, 3).

    Distances (N,) in lengths of the directions, inf without a hit; face numbers (N,), ``NO_HIT`` without; outward unit
    normals (N, 3).
    """
    count = len(origins)
    distance, face, normal = np.full(count, np.inf), np.full(count, NO_HIT), np.zeros((count, 3))
    entries = np.empty(g.low.shape[1])
    for ray in range(count):
        o = (origins[ray, 0], origins[ray, 1], origins[ray, 2])
        d = (directions[ray, 0], directions[ray, 1], directions[ray, 2])
        inverse = (1.0 / d[0], 1.0 / d[1], 1.0 / d[2])
        _group_entries(g.low, g.high, o, inverse, entries)
        best, found = np.inf, NO_HIT
        # The shell comes first and is hit last.
        for group in range(len(entries) - 1, -1, -1):
            if entries[group] >= best:
                continue
            for solid in range(g.first[group], g.first[group + 1]):
                t, side = _entry(g, solid, o, d)
                if t < best:
                    best, found = t, solid * FACES + side
        distance[ray], face[ray] = best, found
        if found != NO_HIT:
            point = (o[0] + best * d[0], o[1] + best * d[1], o[2] + best * d[2])
            normal[ray] = _normal(g, found // FACES, found % FACES, point)
    return distance, face, normal


@inlined
def _group_blocks(g: Geometry, group: int, o: Vector, d: Vector) -> bool:
    """Return whether a shadow-casting solid of the group lies between o and o + d."""
    for solid in range(g.first[group], g.first[group + 1]):  # noqa: SIM110 - compiled: no generators
        if g.casts[solid] and _entry(g, solid, o, d)[0] < 1.0:
            return True
    return False


@compiled
def unblocked(g: Geometry, origins: Floats, reaches: Floats, rows: Ints) -> Ints:
    """Return those of ``rows`` with no shadow caster between ``origins`` and ``origins + reaches``, both (N, 3)."""
    free, entries = np.empty_like(rows), np.empty(len(g.blockers))
    count, last = 0, -1
    for ray in rows:
        o = (origins[ray, 0], origins[ray, 1], origins[ray, 2])
        d = (reaches[ray, 0], reaches[ray, 1], reaches[ray, 2])
        # Neighbouring points mostly lie in the same shadow.
        if last >= 0 and _group_blocks(g, last, o, d):
            continue
        inverse, last = (1.0 / d[0], 1.0 / d[1], 1.0 / d[2]), -1
        _group_entries(g.low_blockers, g.high_blockers, o, inverse, entries)
        for k in range(len(entries)):
            if entries[k] < 1.0 and _group_blocks(g, g.blockers[k], o, d):
                last = g.blockers[k]
                break
        if last < 0:
            free[count] = ray
            count += 1
    return free[:count]
