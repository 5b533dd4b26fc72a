"""Small objects of generated rooms, and objects on walls and ceilings; each in its own frame (see ``solids``)."""

import numpy as np

from mtlsi_net.data.rooms.materials import MaterialBook, linear, random_color
from mtlsi_net.data.rooms.raycast import Floats
from mtlsi_net.data.rooms.solids import Light, Piece, lean

DARK_GLASS = 0.02


def light_color(rng: np.random.Generator) -> Floats:
    """Return linear RGB of mean 1: between candle and daylight, now and then a strongly coloured lamp."""
    if rng.random() < 0.12:
        hsv = rng.random(), rng.uniform(0.2, 0.5), 1.0
    else:
        warmth = rng.uniform(-0.15, 0.5)
        hsv = (0.085 if warmth > 0 else 0.6), abs(warmth), 1.0
    color = linear(hsv)
    return color / color.mean()


def _bulb(rng: np.random.Generator, center: tuple[float, float, float], radius: float, power: float) -> Light:
    return Light(np.array(center), radius * np.eye(3), power * light_color(rng), np.zeros(3))


def _shade(materials: MaterialBook, light: Light) -> int:
    """Return a glowing material in the light's colour."""
    tone = light.color / light.color.max()
    return materials.plain(0.4 + 0.5 * tone, gloss=0.0, emission=0.7)


def pillow(rng: np.random.Generator, materials: MaterialBook, *, upright: bool = False) -> Piece:
    """Return a pillow lying on its origin, or leaning back with its middle in the origin."""
    piece, cloth = Piece().begin("pillow"), materials.fabric()
    if upright:
        half = rng.uniform(0.17, 0.23)
        piece.ellipsoid((0, 0, 0), (half, 0.09, half), cloth, axes=lean(0.35))
    else:
        piece.ellipsoid((0, 0, 0.06), (rng.uniform(0.26, 0.34), rng.uniform(0.18, 0.23), 0.08), cloth)
    return piece


def box(rng: np.random.Generator, materials: MaterialBook, largest: float = 0.6) -> Piece:
    """Return a box of any proportions with sides up to ``largest``, sometimes with a lid."""
    piece, body = Piece().begin("box"), materials.finish()
    w, d, h = rng.uniform(0.35 * largest, largest, 3)
    lid = 0.2 * h if rng.random() < 0.4 else 0.0
    piece.box((-w / 2, -d / 2, 0), (w / 2, d / 2, h - lid), body)
    if lid:
        piece.box((-w / 2 - 0.006, -d / 2 - 0.006, h - lid), (w / 2 + 0.006, d / 2 + 0.006, h), materials.finish())
    return piece


def books_row(rng: np.random.Generator, materials: MaterialBook, length: float, tallest: float) -> Piece:
    """Return books standing side by side from x = 0 to ``length``, as one instance."""
    piece = Piece().begin("books")
    covers = [materials.plain() for _ in range(5)]
    x = 0.0
    while x < length - 0.02:
        w, h = rng.uniform(0.02, 0.06), tallest * rng.uniform(0.65, 0.95)
        piece.box((x, -0.1, 0), (min(x + w, length), rng.uniform(0.03, 0.08), h), covers[rng.integers(5)])
        x += w + 0.001
    return piece


def books_stack(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a few books lying on each other."""
    piece, z = Piece().begin("books"), 0.0
    for _ in range(rng.integers(1, 6)):
        w, d, h = rng.uniform(0.09, 0.13), rng.uniform(0.12, 0.16), rng.uniform(0.02, 0.045)
        piece.box((-w, -d, z), (w, d, z + h), materials.plain())
        z += h
    return piece


def _framed(
    piece: Piece, w: float, h: float, depth: float, rim: float, frame: int, pane: int, y: float = 0.0, z: float = 0.0
) -> None:
    """Add a framed pane, its back at ``y`` and bottom at ``z``; pictures, windows and screens share this look."""
    piece.box((-w / 2, y, z), (w / 2, y + 0.7 * depth, z + h), pane)
    for x in (-w / 2, w / 2 - rim):
        piece.box((x, y, z), (x + rim, y + depth, z + h), frame)
    for low in (z, z + h - rim):
        piece.box((-w / 2 + rim, y, low), (w / 2 - rim, y + depth, low + rim), frame)


def picture(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a picture for a wall, of very varied size."""
    piece = Piece().begin("picture", casts=False)
    dark = rng.random() < 0.15
    pane = materials.plain(np.full(3, DARK_GLASS), gloss=0.8) if dark else materials.scenery()
    w, h = rng.uniform(0.3, 1.1), rng.uniform(0.3, 0.9)
    _framed(piece, w, h, rng.uniform(0.02, 0.05), rng.uniform(0.015, 0.07), materials.finish(), pane)
    return piece


def _screen(rng: np.random.Generator, materials: MaterialBook, width: float, y: float, z: float) -> tuple[Piece, int]:
    """Return a flat screen, on or off, and the material of its case."""
    piece, on = Piece().begin("television"), rng.random() < 0.5
    case = materials.plain(np.full(3, rng.uniform(0.01, 0.06)), gloss=0.6)
    dark = materials.plain(np.full(3, DARK_GLASS), gloss=1.0)
    pane = materials.scenery(emission=rng.uniform(0.5, 2.0)) if on else dark
    _framed(piece, width, 0.58 * width, 0.04, 0.012, case, pane, y, z)
    return piece, case


def television(rng: np.random.Generator, materials: MaterialBook, width: float) -> Piece:
    """Return a flat screen of ``width`` metres on a foot."""
    piece, case = _screen(rng, materials, width, -0.02, 0.06)
    piece.box((-0.14, -0.1, 0), (0.14, 0.1, 0.015), case)
    piece.box((-0.03, -0.05, 0.015), (0.03, -0.02, 0.25 * width), case)
    return piece


def wall_television(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a flat screen for a wall."""
    return _screen(rng, materials, rng.uniform(0.9, 1.3), 0.0, 0.0)[0]


def window(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a window with its light: a bright view by day, dark glass at night."""
    piece, day = Piece().begin("window", casts=False), rng.random() < 0.75
    w, h = rng.uniform(0.8, 2.0), rng.uniform(1.0, 1.35)
    bright = rng.uniform(1.0, 4.0)
    pane = materials.scenery(emission=bright, gloss=0.6) if day else materials.plain(np.full(3, DARK_GLASS), gloss=0.9)
    frame = materials.plain(np.full(3, rng.uniform(0.5, 0.9))) if rng.random() < 0.7 else materials.wood()
    _framed(piece, w, h, 0.05, 0.05, frame, pane)
    panes = int(rng.integers(1, 4))
    for i in range(1, panes):
        x = -w / 2 + w * i / panes
        piece.box((x - 0.02, 0, 0.05), (x + 0.02, 0.05, h - 0.05), frame)
    piece.box((-w / 2 - 0.05, 0, -0.03), (w / 2 + 0.05, 0.14, 0.0), frame)
    if day:
        extent = np.diag([0.45 * w, 0.0, 0.45 * h])
        power = rng.uniform(1.5, 5.0) * w * h * (0.6 + 0.4 * light_color(rng))
        piece.lights.append(Light(np.array([0, 0.08, h / 2]), extent, power, np.array([0.0, 1.0, 0.0])))
    return piece


def door(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a door 2.0 to 2.1 m high in its frame, with panels and a handle."""
    piece = Piece().begin("door", casts=False)
    leaf = materials.wood() if rng.random() < 0.5 else materials.plain(random_color(rng, (0.4, 0.95), 0.5))
    frame = leaf if rng.random() < 0.5 else materials.finish()
    w, h, rim = rng.uniform(0.75, 0.95), rng.uniform(2.0, 2.1), 0.07
    piece.box((-w / 2, 0, 0), (w / 2, 0.03, h), leaf)
    for x in (-w / 2 - rim, w / 2):
        piece.box((x, 0, 0), (x + rim, 0.05, h + rim), frame)
    piece.box((-w / 2, 0, h), (w / 2, 0.05, h + rim), frame)
    rows = int(rng.integers(0, 4))
    for row in range(rows):
        z0, z1 = 0.15 + row * (h - 0.25) / rows, 0.05 + (row + 1) * (h - 0.25) / rows
        piece.box((-w / 2 + 0.12, 0.03, z0), (w / 2 - 0.12, 0.036, z1), leaf)
    side = rng.choice([-1, 1])
    piece.ellipsoid((side * (w / 2 - 0.07), 0.07, 1.02), (0.05, 0.03, 0.02), materials.plain(gloss=0.9))
    return piece


def floor_mat(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a rectangular or round mat, of very varied size."""
    piece, cloth = Piece().begin("floor mat", casts=False), materials.fabric()
    if rng.random() < 0.3:
        piece.cylinder((0, 0, 0), rng.uniform(0.5, 1.1), 0.012, cloth)
        return piece
    w, d = rng.uniform(0.8, 2.4), rng.uniform(0.6, 1.6)
    piece.box((-w / 2, -d / 2, 0), (w / 2, d / 2, 0.008), materials.fabric())
    piece.box((-w / 2 + 0.08, -d / 2 + 0.08, 0), (w / 2 - 0.08, d / 2 - 0.08, 0.012), cloth)
    return piece


def _lamp(rng: np.random.Generator, materials: MaterialBook, height: float, radius: float, power: float) -> Piece:
    piece, stand = Piece().begin("lamp"), materials.finish()
    light = _bulb(rng, (0, 0, height - 0.6 * radius), 0.5 * radius, power)
    shade = _shade(materials, light)
    piece.cylinder((0, 0, 0), 0.7 * radius, 0.025, stand)
    piece.cylinder((0, 0, 0.02), 0.016 + 0.03 * radius, height - 1.2 * radius, stand)
    if rng.random() < 0.3:
        piece.ellipsoid((0, 0, height - radius), (radius, radius, radius), shade, glows=True)
    else:
        tall = rng.uniform(1.1, 1.7) * radius
        piece.cylinder((0, 0, height - tall), radius, tall, shade, taper=rng.uniform(0, 0.6), glows=True)
    piece.lights.append(light)
    return piece


def floor_lamp(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a lamp standing on the floor."""
    return _lamp(rng, materials, rng.uniform(1.3, 1.75), rng.uniform(0.14, 0.25), rng.uniform(0.8, 2.5))


def table_lamp(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a lamp for a night stand, a desk or a cabinet."""
    return _lamp(rng, materials, rng.uniform(0.35, 0.55), rng.uniform(0.09, 0.14), rng.uniform(0.3, 1.2))


def ceiling_lamp(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a lamp hanging from the ceiling, which is at z = 0."""
    piece = Piece().begin("lamp")
    drop, radius = rng.uniform(0.06, 0.6), rng.uniform(0.12, 0.25)
    light = _bulb(rng, (0, 0, -drop - radius), radius, rng.uniform(1.5, 4.0))
    shade = _shade(materials, light)
    piece.cylinder((0, 0, -drop), 0.012, drop, materials.finish())
    if rng.random() < 0.5:
        piece.ellipsoid((0, 0, -drop - 0.6 * radius), (radius, radius, 0.6 * radius), shade, glows=True)
    else:
        piece.cylinder((0, 0, -drop - radius), radius, radius, shade, taper=rng.uniform(0, 0.7), glows=True)
    piece.lights.append(light)
    return piece
