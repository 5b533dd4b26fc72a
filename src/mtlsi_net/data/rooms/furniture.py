"""Furniture of generated rooms. Sizes in metres; beds, chairs, sofas and doors keep true sizes, which sets the scale.

Each function draws one piece in its own frame (see ``solids``).
"""

from collections.abc import Callable

import numpy as np

from mtlsi_net.data.rooms.fixtures import books_row, box, pillow, television
from mtlsi_net.data.rooms.materials import MaterialBook
from mtlsi_net.data.rooms.solids import Piece

Maker = Callable[[np.random.Generator, MaterialBook], Piece]


def bed(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a bed, 2.0 m long, headboard at the back, with pillows."""
    piece, frame, cloth = Piece().begin("bed"), materials.finish(), materials.fabric()
    w, low, top = rng.choice([0.9, 1.4, 1.6, 1.8]), rng.uniform(0.18, 0.3), rng.uniform(0.45, 0.58)
    piece.legs((-w / 2, -1.02, 0), (w / 2, 1.02, low), 0.07, frame)
    piece.box((-w / 2 - 0.02, -1.03, low - 0.06), (w / 2 + 0.02, 1.03, low + 0.08), frame)
    piece.box((-w / 2, -1.0, low + 0.08), (w / 2, 1.0, top), materials.plain(np.full(3, rng.uniform(0.5, 0.9))))
    # The cover hangs over the sides and leaves the pillows' end free.
    piece.box((-w / 2 - 0.025, -0.45, low + 0.1), (w / 2 + 0.025, 1.035, top + 0.03), cloth)
    piece.box((-w / 2 - 0.02, -1.09, 0), (w / 2 + 0.02, -1.03, rng.uniform(0.75, 1.2)), frame)
    count = 1 if w < 1.2 else 2
    for i in range(count):
        piece.absorb(pillow(rng, materials), ((i + 0.5) * w / count - w / 2, -0.75, top), rng.normal(0, 0.1))
    return piece


def chair(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a chair: seat 0.45 m high, four legs, back of slats or a board."""
    piece, frame = Piece().begin("chair"), materials.finish()
    seat = frame if rng.random() < 0.4 else materials.fabric()
    w, d, top = rng.uniform(0.4, 0.48), rng.uniform(0.4, 0.46), rng.uniform(0.85, 1.0)
    piece.legs((-w / 2, -d / 2, 0), (w / 2, d / 2, 0.42), rng.uniform(0.03, 0.045), frame)
    piece.box((-w / 2, -d / 2, 0.41), (w / 2, d / 2, 0.46), seat)
    for x in (-w / 2, w / 2 - 0.04):
        piece.box((x, -d / 2, 0.46), (x + 0.04, -d / 2 + 0.035, top), frame)
    lowest = rng.choice([0.5, 0.62, 0.72])
    piece.box((-w / 2 + 0.02, -d / 2, lowest), (w / 2 - 0.02, -d / 2 + 0.03, top), seat)
    return piece


def _sofa(rng: np.random.Generator, materials: MaterialBook, width: float) -> Piece:
    piece, cloth = Piece().begin("sofa"), materials.finish() if rng.random() < 0.15 else materials.fabric()
    d, seat, top, arm = rng.uniform(0.8, 0.95), 0.43, rng.uniform(0.75, 0.92), rng.uniform(0.1, 0.2)
    inner = width / 2 - arm
    piece.legs((-width / 2, -d / 2, 0), (width / 2, d / 2, 0.1), 0.06, materials.wood())
    piece.box((-width / 2, -d / 2, 0.09), (width / 2, d / 2, 0.3), cloth)
    piece.leaning_box((0, -d / 2 + 0.16, (0.3 + top) / 2), (inner + 0.01, 0.08, (top - 0.25) / 2), cloth, 0.12)
    for side in (-1, 1):
        left = inner if side > 0 else -width / 2
        piece.box((left, -d / 2, 0.3), (left + arm, d / 2, rng.uniform(0.55, 0.65)), cloth)
    count = max(1, round(2 * inner / 0.65))
    cushion = cloth if rng.random() < 0.7 else materials.fabric()
    for i in range(count):
        x = -inner + 2 * inner * i / count
        piece.box((x + 0.005, -d / 2 + 0.2, 0.3), (x + 2 * inner / count - 0.005, d / 2 + 0.02, seat), cushion)
    for side in (-1, 1):
        if rng.random() < 0.45 and width > 1.2:
            at = (side * (inner - 0.28), -d / 2 + 0.36, seat + 0.19)
            piece.absorb(pillow(rng, materials, upright=True), at, rng.normal(0, 0.15))
    return piece


def sofa(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a sofa for two or three, seat 0.43 m high."""
    return _sofa(rng, materials, rng.choice([1.5, 1.8, 2.1]))


def armchair(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a sofa for one."""
    return _sofa(rng, materials, rng.uniform(0.8, 0.95))


def _tabletop(
    rng: np.random.Generator, materials: MaterialBook, label: str, w: float, d: float, height: float
) -> Piece:
    piece, top = Piece().begin(label), materials.finish()
    under = top if rng.random() < 0.6 else materials.finish()
    inset = rng.uniform(0, 0.06)
    piece.box((-w / 2, -d / 2, height - rng.uniform(0.025, 0.05)), (w / 2, d / 2, height), top)
    piece.legs((inset - w / 2, inset - d / 2, 0), (w / 2 - inset, d / 2 - inset, height - 0.02), 0.055, under)
    piece.tops.append(((-w / 2, -d / 2, height), (w / 2, d / 2, height)))
    return piece


def _round_table(rng: np.random.Generator, materials: MaterialBook, radius: float, height: float) -> Piece:
    piece, top = Piece().begin("table"), materials.finish()
    piece.cylinder((0, 0, height - 0.035), radius, 0.035, top)
    piece.cylinder((0, 0, 0.03), 0.05, height - 0.05, materials.finish())
    piece.cylinder((0, 0, 0), rng.uniform(0.45, 0.7) * radius, 0.035, top, taper=0.3)
    inner = 0.6 * radius
    piece.tops.append(((-inner, -inner, height), (inner, inner, height)))
    return piece


def dining_table(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a table 0.72 to 0.76 m high, round or rectangular."""
    height = rng.uniform(0.72, 0.76)
    if rng.random() < 0.3:
        return _round_table(rng, materials, rng.uniform(0.45, 0.65), height)
    return _tabletop(rng, materials, "table", rng.uniform(1.0, 1.9), rng.uniform(0.7, 0.95), height)


def coffee_table(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a low table, round or rectangular, of very varied size."""
    height = rng.uniform(0.3, 0.5)
    if rng.random() < 0.3:
        return _round_table(rng, materials, rng.uniform(0.25, 0.5), height)
    return _tabletop(rng, materials, "table", rng.uniform(0.5, 1.2), rng.uniform(0.4, 0.7), height)


def desk(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a desk: a table top at a wall, mostly with drawers on one side and a screen on it."""
    w, d = rng.uniform(1.0, 1.5), rng.uniform(0.55, 0.75)
    piece = _tabletop(rng, materials, "desk", w, d, rng.uniform(0.72, 0.76))
    height = piece.tops[0][0][2]
    if rng.random() < 0.6:
        x = rng.choice([-w / 2 + 0.06, w / 2 - 0.46])
        _fronts(piece, (x, -d / 2 + 0.04, 0.08), (x + 0.4, d / 2 - 0.06, height - 0.03), 1, 3, piece.solids[0].material)
    if rng.random() < 0.6:
        screen = television(rng, materials, rng.uniform(0.45, 0.6))
        piece.absorb(screen, (rng.uniform(-0.2, 0.2), -d / 2 + 0.15, height))
        piece.tops[:] = [((-w / 2, 0.0, height), (w / 2, d / 2, height))]
    return piece


def _fronts(
    piece: Piece, low: tuple[float, float, float], high: tuple[float, float, float], columns: int, rows: int, body: int
) -> None:
    """Add a carcass with ``columns`` x ``rows`` doors or drawers on its front, each with a knob."""
    piece.box(low, high, body)
    w, h, y = (high[0] - low[0]) / columns, (high[2] - low[2]) / rows, high[1]
    for i in range(columns):
        for j in range(rows):
            x, z = low[0] + i * w, low[2] + j * h
            piece.box((x + 0.01, y, z + 0.01), (x + w - 0.01, y + 0.015, z + h - 0.01), body)
            piece.ellipsoid((x + w / 2, y + 0.025, z + h * 0.6), (0.018, 0.018, 0.018), body)


def cabinet(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a cabinet: from a plain box, as a night stand may be, to a chest of drawers or a wardrobe."""
    piece, body = Piece().begin("cabinet"), materials.finish()
    w, d = rng.uniform(0.4, 1.3), rng.uniform(0.38, 0.6)
    h = rng.uniform(1.7, 2.1) if rng.random() < 0.3 else rng.uniform(0.45, 1.1)
    if rng.random() < 0.3:
        piece.box((-w / 2, -d / 2, 0), (w / 2, d / 2, h), body)
    else:
        columns, rows = max(1, round(w / 0.55)), 1 if h > 1.2 else max(1, round(h / 0.28))
        _fronts(piece, (-w / 2, -d / 2, 0), (w / 2, d / 2, h), columns, rows, body)
    if h < 1.2:
        piece.tops.append(((-w / 2, -d / 2, h), (w / 2, d / 2, h)))
    return piece


def sideboard(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a low wide cabinet with a television on it."""
    piece, body = Piece().begin("cabinet"), materials.finish()
    w, d, h = rng.uniform(1.1, 1.8), rng.uniform(0.38, 0.5), rng.uniform(0.35, 0.65)
    _fronts(piece, (-w / 2, -d / 2, 0), (w / 2, d / 2, h), round(w / 0.5), 1, body)
    piece.absorb(television(rng, materials, rng.uniform(0.8, min(1.25, w))), (0, 0, h))
    return piece


def night_stand(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return a night stand; by its look alone it could be a small cabinet or a box."""
    piece, body = Piece().begin("night stand"), materials.finish()
    w, d, h = rng.uniform(0.38, 0.52), rng.uniform(0.35, 0.42), rng.uniform(0.42, 0.6)
    if rng.random() < 0.4:
        piece.box((-w / 2, -d / 2, 0), (w / 2, d / 2, h), body)
    else:
        _fronts(piece, (-w / 2, -d / 2, 0), (w / 2, d / 2, h), 1, int(rng.integers(1, 4)), body)
    piece.tops.append(((-w / 2, -d / 2, h), (w / 2, d / 2, h)))
    return piece


def bookshelf(rng: np.random.Generator, materials: MaterialBook) -> Piece:
    """Return shelves between two side boards, with rows of books and a few boxes."""
    piece, board = Piece().begin("bookshelf"), materials.finish()
    w, d, rows = rng.uniform(0.6, 1.3), rng.uniform(0.26, 0.34), int(rng.integers(2, 6))
    step, t = rng.uniform(0.32, 0.4), 0.022
    h = rows * step + 0.08
    piece.box((-w / 2, -d / 2, 0), (w / 2, -d / 2 + 0.012, h), board)
    for x in (-w / 2, w / 2 - t):
        piece.box((x, -d / 2 + 0.012, 0), (x + t, d / 2, h + t), board)
    for row in range(rows + 1):
        z = 0.08 + row * step
        piece.box((-w / 2 + t, -d / 2 + 0.012, z - t), (w / 2 - t, d / 2 - 0.005, z), board)
    for row in range(rows):
        at, kind = 0.08 + row * step, rng.random()
        if kind < 0.75:
            inner = w - 2 * t - 0.02
            length = inner * rng.uniform(0.35, 1.0)
            x = -inner / 2 + (inner - length) * rng.choice([0.0, 1.0])
            piece.absorb(books_row(rng, materials, length, step - 0.05), (x, 0, at))
        elif kind < 0.88:
            piece.absorb(box(rng, materials, 0.24), (rng.uniform(-0.1, 0.1), 0, at))
    return piece
