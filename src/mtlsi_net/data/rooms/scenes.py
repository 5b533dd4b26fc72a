"""Sampler of furnished rooms: shell, furniture placement and lights.

An object's class follows from its surroundings, not from its look: the same carcass is a night stand beside a bed, a cabinet at
a wall and a box on the floor; the same framed pane is a picture, a window or a television. Metric size follows from the few
objects of known size (doors, beds, chairs, sofas) while rooms, tables, mats, pictures and boxes vary widely.
"""

from collections.abc import Callable

import numpy as np

from mtlsi_net.data.rooms import fixtures, furniture
from mtlsi_net.data.rooms.exact import cos_sin
from mtlsi_net.data.rooms.furniture import Maker
from mtlsi_net.data.rooms.materials import MaterialBook
from mtlsi_net.data.rooms.raycast import Floats, Vector
from mtlsi_net.data.rooms.solids import Light, Piece, Scene

TRIES = 14
THICKNESS = 0.3
GAP = 0.02
SLACK = 1e-6


def _moved(at: Vector, angle: float, right: float, ahead: float) -> tuple[float, float]:
    """Return (x, y) of what lies ``right`` and ``ahead`` of a place as seen from there, turned by ``angle``."""
    c, s = cos_sin(angle)
    return at[0] + c * right - s * ahead, at[1] + s * right + c * ahead


class Room:
    """A room being furnished: keeps what is placed and refuses what would not fit."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.materials, self.piece = rng, MaterialBook(rng), Piece()
        self.size = np.array([rng.uniform(2.9, 6.2), rng.uniform(3.2, 6.8), rng.uniform(2.3, 3.2)])
        self.obstacles: list[Floats] = []
        self.keep_free: list[Floats] = []
        self.tops: list[tuple[Vector, float, float]] = []

    def _fits(self, bounds: Floats) -> bool:
        if (bounds[0, :2] < -SLACK).any() or (bounds[1] > self.size + SLACK).any():
            return False
        taken = np.array(self.obstacles + self.keep_free).reshape(-1, 2, 3)
        return not ((bounds[0] < taken[:, 1]) & (bounds[1] > taken[:, 0])).all(axis=1).any()

    def place(self, piece: Piece, at: Vector, angle: float, *, solid: bool = True, front: float = 0.0) -> bool:
        """Put ``piece`` at ``at``, turned by ``angle``, if its place is free; ``front`` metres before it stay free."""
        placed = Piece()
        placed.absorb(piece, at, angle)
        # Objects on a table top touch it; that is not an overlap.
        boxes = placed.instance_bounds()
        boxes[:, 0, 2] += 1e-3
        if solid and not all(self._fits(bounds) for bounds in boxes):
            return False
        if solid:
            self.obstacles += list(boxes)
        if front:
            c, s = cos_sin(angle)
            zone, ahead = placed.bounds(), np.array([-s, c, 0.0]) * front
            zone[0], zone[1] = zone[0] + np.minimum(ahead, 0), zone[1] + np.maximum(ahead, 0)
            self.keep_free.append(zone)
        self.piece.absorb(placed, (0.0, 0.0, 0.0))
        for low, high in piece.tops:
            middle = _moved(at, angle, (low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
            self.tops.append(((*middle, at[2] + low[2]), angle, (high[0] - low[0]) / 2))
        return True

    def at_wall(self, piece: Piece, *, height: float = 0.0, front: float = 0.0) -> tuple[Vector, float] | None:
        """Put ``piece`` with its back to some wall, at ``height``; return its place, or None if none was free."""
        low, high = piece.bounds()
        for _ in range(TRIES):
            wall = int(self.rng.integers(4))
            length, angle = self.size[wall % 2], wall * np.pi / 2
            if high[0] - low[0] > length - 0.1:
                continue
            along = self.rng.uniform(0.05 - low[0], length - 0.05 - high[0])
            inward = GAP - low[1] if height == 0 else -low[1]
            # Wall 0 is y = 0; the next ones follow counter-clockwise, so that "front" turns with the angle.
            w, d = self.size[:2]
            spots = ((along, inward), (w - inward, along), (w - along, d - inward), (inward, d - along))
            at = (*spots[wall], height)
            if self.place(piece, at, angle, front=front):
                return at, angle
        return None

    def beside(self, piece: Piece, at: Vector, angle: float, offset: tuple[float, float], turn: float = 0.0) -> bool:
        """Put ``piece`` at ``offset`` (right, ahead) from another piece's place."""
        return self.place(piece, (*_moved(at, angle, *offset), at[2]), angle + turn)

    def anywhere(self, piece: Piece, *, turn: bool = True, solid: bool = True) -> tuple[Vector, float] | None:
        """Put ``piece`` somewhere on the floor; return its place, or None if none was free."""
        for _ in range(TRIES):
            at = (*self.rng.uniform(0.2, self.size[:2] - 0.2), 0.0)
            angle = self.rng.uniform(0, 2 * np.pi) if turn else self.rng.integers(4) * np.pi / 2
            bounds = Piece()
            bounds.absorb(piece, at, angle)
            low, high = bounds.bounds()
            inside = (low[:2] > 0).all() and (high[:2] < self.size[:2]).all()
            if inside and self.place(piece, at, angle, solid=solid):
                return at, angle
        return None

    def some_at_walls(self, *makers: tuple[Maker, float]) -> None:
        """Put pieces to walls, each with its probability."""
        for maker, probability in makers:
            if self.chance(probability):
                self.at_wall(self.make(maker))

    def make(self, maker: Maker) -> Piece:
        """Return a new piece of the given kind."""
        return maker(self.rng, self.materials)

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``."""
        return bool(self.rng.random() < probability)


def _shell(room: Room) -> None:
    """Add floor, ceiling and walls, as boxes around the room, and sometimes a chimney breast or a pillar."""
    (w, d, h), t, piece, materials = room.size, THICKNESS, room.piece, room.materials
    piece.begin("floor", casts=False).box((-t, -t, -t), (w + t, d + t, 0), materials.floor())
    ceiling = materials.plain(np.full(3, room.rng.uniform(0.6, 0.95)), gloss=0.0)
    piece.begin("ceiling", casts=False).box((-t, -t, h), (w + t, d + t, h + t), ceiling)
    paint = materials.wall()
    spans = (((-t, -t), (w + t, 0)), ((w, -t), (w + t, d + t)), ((-t, d), (w + t, d + t)), ((-t, -t), (0, d + t)))
    for low, high in spans:
        own = paint if room.chance(0.8) else materials.wall()
        piece.begin("wall", casts=False).box((*low, 0), (*high, h), own)
    if room.chance(0.3):
        block, a, b = Piece().begin("wall"), *room.rng.uniform(0.3, 1.2, 2)
        block.box((-a / 2, -b / 2, 0), (a / 2, b / 2, h), paint)
        x, y = room.rng.choice([a / 2, w - a / 2]), room.rng.choice([b / 2, d - b / 2])
        room.place(block, (x, y, 0.0), 0.0)


def _bedroom(room: Room) -> None:
    """A bed with night stands beside it, a mat, cabinets, perhaps a desk."""
    bed = room.make(furniture.bed)
    found = room.at_wall(bed)
    if found:
        (low, high), (at, angle) = bed.bounds(), found
        for side in (-1, 1):
            stand = room.make(furniture.night_stand)
            edge = high[0] if side > 0 else -low[0]
            if room.chance(0.85):
                room.beside(stand, at, angle, (side * (edge + 0.3 + room.rng.uniform(0, 0.08)), low[1] + 0.25))
        if room.chance(0.5):
            before = _moved(at, angle, 0.0, room.rng.uniform(0.3, 1.0))
            room.place(room.make(fixtures.floor_mat), (*before, 0.0), angle, solid=False)
    room.at_wall(room.make(furniture.cabinet), front=0.3)
    room.some_at_walls((furniture.sideboard, 0.35), (furniture.bookshelf, 0.35), (furniture.armchair, 0.3))
    if room.chance(0.4):
        _desk(room)


def _desk(room: Room) -> None:
    """A desk at a wall with a chair before it."""
    desk = room.make(furniture.desk)
    found = room.at_wall(desk)
    if found:
        ahead = desk.bounds()[1, 1] + room.rng.uniform(0.28, 0.5)
        turn = np.pi + room.rng.normal(0, 0.25)
        room.beside(room.make(furniture.chair), *found, (room.rng.uniform(-0.2, 0.2), ahead), turn)


def _living_room(room: Room) -> None:
    """A sofa with a low table before it, a television, shelves, a lamp."""
    sofa = room.make(furniture.sofa)
    found = room.at_wall(sofa)
    if found:
        at, angle = found
        if room.chance(0.6):
            room.place(room.make(fixtures.floor_mat), (*_moved(at, angle, 0.0, 1.1), 0.0), angle, solid=False)
        table = room.make(furniture.coffee_table)
        room.beside(table, at, angle, (room.rng.uniform(-0.3, 0.3), room.rng.uniform(1.0, 1.3)))
        side = sofa.bounds()[1, 0] + 0.3
        if room.chance(0.5):
            room.beside(room.make(fixtures.floor_lamp), at, angle, (room.rng.choice([-side, side]), 0.0))
    if room.chance(0.6):
        room.at_wall(room.make(furniture.sideboard), front=0.6)
    room.some_at_walls((furniture.bookshelf, 0.6), (furniture.armchair, 0.5), (furniture.cabinet, 0.4))


def _dining_room(room: Room) -> None:
    """A table with chairs around it, cabinets and shelves."""
    table = room.make(furniture.dining_table)
    found = room.anywhere(table, turn=False)
    if found:
        w, d = table.bounds()[1, :2]
        near = room.rng.uniform(0.26, 0.5)
        spots = ((-w / 2, d + near, np.pi), (w / 2, d + near, np.pi), (-w / 2, -d - near, 0.0), (w / 2, -d - near, 0.0))
        ends = ((w + near, 0.0, np.pi / 2), (-w - near, 0.0, -np.pi / 2))
        for x, y, turn in (*spots, *ends):
            if room.chance(0.75):
                room.beside(room.make(furniture.chair), *found, (x, y), turn + room.rng.normal(0, 0.15))
    room.some_at_walls((furniture.cabinet, 0.9), (furniture.bookshelf, 0.5), (furniture.sideboard, 0.3))


def _office(room: Room) -> None:
    """Desks with chairs, shelves and cabinets."""
    _desk(room)
    room.some_at_walls((furniture.bookshelf, 0.9), (furniture.cabinet, 0.7), (furniture.bookshelf, 0.4))
    if room.chance(0.4):
        room.anywhere(room.make(furniture.dining_table), turn=False)
    if room.chance(0.5):
        _desk(room)


PROGRAMS: tuple[Callable[[Room], None], ...] = (_bedroom, _living_room, _dining_room, _office)
SHARES = (0.4, 0.25, 0.15, 0.2)


def _openings(room: Room) -> None:
    """Add doors, windows and the ceiling lamp."""
    for _ in range(1 + room.chance(0.3)):
        room.at_wall(room.make(fixtures.door), front=0.7)
    for _ in range(room.rng.choice(3, p=(0.2, 0.5, 0.3))):
        room.at_wall(room.make(fixtures.window), height=room.rng.uniform(0.75, 0.95))
    if room.chance(0.75):
        at = room.rng.uniform(0.35, 0.65, 2) * room.size[:2]
        room.place(room.make(fixtures.ceiling_lamp), (at[0], at[1], room.size[2]), 0.0)


def _wall_things(room: Room) -> None:
    """Hang pictures, now and then a television."""
    for _ in range(room.rng.integers(0, 6)):
        picture = room.make(fixtures.picture)
        center = room.rng.uniform(1.4, 1.7)
        room.at_wall(picture, height=center - picture.bounds()[1, 2] / 2)
    if room.chance(0.2):
        room.at_wall(room.make(fixtures.wall_television), height=room.rng.uniform(0.9, 1.3))


def _small_things(room: Room) -> None:
    """Put small objects on tables and cabinets, boxes on the floor, and further objects where they fit."""
    makers: tuple[Maker, ...] = (fixtures.table_lamp, fixtures.books_stack, fixtures.box, fixtures.books_stack)
    for center, angle, half in list(room.tops):
        for slot in (-0.6, 0.0, 0.6) if half > 0.35 else (0.0,):
            thing = room.make(makers[room.rng.integers(len(makers))])
            wide = thing.bounds()[1, 0] - thing.bounds()[0, 0]
            if wide > 0.9 * half * (1.2 if half > 0.35 else 2) or not room.chance(0.5):
                continue
            at = (*_moved(center, angle, slot * half, 0.0), center[2])
            room.place(thing, at, angle + room.rng.normal(0, 0.2))
    if room.chance(0.35):
        room.anywhere(room.make(fixtures.floor_lamp))
    if room.chance(0.25):
        room.anywhere(room.make(fixtures.floor_mat), turn=False, solid=False)
    for _ in range(room.rng.integers(0, 4)):
        room.anywhere(room.make(fixtures.box))
    if room.chance(0.35):
        room.anywhere(room.make(furniture.chair))


def _fill_light(room: Room) -> Light:
    """Return a wide weak light below the ceiling, so that no room is lit from one place only."""
    at = np.array([*room.rng.uniform(0.3, 0.7, 2) * room.size[:2], room.size[2] - 0.5])
    power = room.rng.uniform(0.3, 1.2) * fixtures.light_color(room.rng)
    return Light(at, np.diag([0.4, 0.4, 0.1]), power, np.zeros(3))


def sample_scene(rng: np.random.Generator) -> Scene:
    """Return a random furnished room; the same state of ``rng`` gives the same room. It has at least two lights."""
    room = Room(rng)
    _shell(room)
    _openings(room)
    PROGRAMS[rng.choice(len(PROGRAMS), p=SHARES)](room)
    _wall_things(room)
    _small_things(room)
    room.piece.lights.append(_fill_light(room))
    if len(room.piece.lights) < 2:
        room.piece.lights.append(_fill_light(room))
    return Scene(room.size, room.piece, room.materials.table(), np.array(room.obstacles))
