"""Renderer of a generated room: a photograph-like image and exactly matching labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.data.class_sets import CLASS_SETS
from mtlsi_net.data.rooms.cameras import Camera, choose_camera
from mtlsi_net.data.rooms.develop import develop
from mtlsi_net.data.rooms.exact import Draws, dot, length
from mtlsi_net.data.rooms.materials import surface_color
from mtlsi_net.data.rooms.raycast import FACES, Floats, Ints, compiled, first_hit
from mtlsi_net.data.rooms.scenes import sample_scene
from mtlsi_net.data.rooms.shading import Surfaces, light_up
from mtlsi_net.data.rooms.solids import Scene

CREASE = np.sqrt(0.75)
"""Cosine of the angle between normals above which two faces of one object meet in a crease (our choice)."""
DEPTH_STEP = 0.05
"""Relative step in depth that makes a boundary between two faces of one object (our choice)."""
SUBPIXELS = np.array([(-0.375, -0.125), (-0.125, 0.375), (0.125, -0.375), (0.375, 0.125)])


@dataclass(frozen=True)
class RoomImage:
    """One rendered room.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32, metres along the optical axis, above 0, no missing values.
        normals: (H, W, 3) float32 unit vectors in the camera's frame: x right, y up, z towards the camera.
        semseg: (H, W) uint8, index into NYUDv2's 40 classes; every pixel is labelled.
        boundary: (H, W) uint8, 1 on thin lines where instances meet, faces crease or depth steps.
        intrinsics: fx, fy, cx, cy (pixels; the first pixel's centre is 0), height, width, and the pose
            (``position`` in metres, ``axes``: rows right, up, forward).
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    normals: NDArray[np.float32]
    semseg: NDArray[np.uint8]
    boundary: NDArray[np.uint8]
    intrinsics: dict[str, Any]


def boundaries(instances: Ints, faces: Ints, normals: Floats, depth: Floats) -> NDArray[np.uint8]:
    """Return (H, W) uint8, 1 where a pixel differs from its right or lower neighbour.

    Different are: other instance; or other face with depth 5 % apart, or with normals more than 30 degrees apart, both
    between the two pixels and between the next ones to either side (a sliver of a pixel's width, such as the edge of a
    door's panel, is no crease). Curved surfaces are one face and have no creases. ``normals`` (H, W, 3) are unit vectors,
    the other maps (H, W).
    """
    out = np.zeros(instances.shape, dtype=np.uint8)
    # Each pass looks along the second axis; the transposed view of ``out`` takes the results of the other direction.
    views = (
        (out, instances, faces, depth, normals),
        (out.T, instances.T, faces.T, depth.T, normals.transpose(1, 0, 2)),
    )
    for marked, instance, face, metres, normal in views:
        wide = np.pad(normal, ((0, 0), (1, 1), (0, 0)), mode="edge")
        bent = _angled(normal[:, :-1], normal[:, 1:]) & _angled(wide[:, :-3], wide[:, 3:])
        near, far = metres[:, :-1], metres[:, 1:]
        step = np.abs(near - far) > DEPTH_STEP * np.minimum(near, far)
        other = face[:, :-1] != face[:, 1:]
        marked[:, :-1] |= (instance[:, :-1] != instance[:, 1:]) | (other & (bent | step))
    return out


def _angled(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """Return where unit vectors (..., 3) are further apart than in a crease."""
    return np.asarray(dot(a, b) < CREASE)


@compiled
def _same_face(faces: Ints, rows: Ints, columns: Ints, wanted: Ints) -> Ints:
    """Return flat indices (N,) of pixels near (rows, columns) that show face ``wanted``, or of the pixels themselves."""
    height, width = faces.shape
    found = np.empty(len(rows), dtype=np.int64)
    for n in range(len(rows)):
        found[n] = rows[n] * width + columns[n]
        nearest = 9
        for i in range(max(0, rows[n] - 1), min(height, rows[n] + 2)):
            for j in range(max(0, columns[n] - 1), min(width, columns[n] + 2)):
                away = (i - rows[n]) ** 2 + (j - columns[n]) ** 2
                if faces[i, j] == wanted[n] and away < nearest:
                    found[n], nearest = i * width + j, away
    return found


class _View:
    """What the rays of a camera meet, and its colours."""

    def __init__(self, scene: Scene, surfaces: Surfaces, camera: Camera) -> None:
        self.scene, self.surfaces, self.camera = scene, surfaces, camera
        self.rays = camera.grid()
        self.depth, self.face, self.normal = self._cast(self.rays)
        self.points = camera.position + self.depth[:, None] * self.rays

    def _cast(self, rays: Floats) -> tuple[Floats, Ints, Floats]:
        return first_hit(self.surfaces.geometry, np.tile(self.camera.position, (len(rays), 1)), rays)

    def _color(self, rays: Floats, depth: Floats, face: Ints, normal: Floats, lighting: Floats) -> Floats:
        solids, surfaces = face // FACES, self.surfaces
        slant = np.abs(dot(rays, normal)) / length(rays)
        footprint = depth / self.camera.fx / np.maximum(slant, 0.1)
        points, material = self.camera.position + depth[:, None] * rays, surfaces.materials
        albedo = surface_color(points, solids, footprint, surfaces.geometry.to_unit, surfaces.halves, material)
        glow, gloss = material["emission"][solids, None], material["gloss"][solids, None]
        return albedo * (lighting[:, :3] + glow) + gloss * lighting[:, 3:]

    def radiance(self) -> Floats:
        """Return (H, W, 3) linear RGB, antialiased where faces meet."""
        size = self.camera.height, self.camera.width
        lights = self.scene.piece.lights
        lighting = light_up(self.surfaces, lights, self.points, self.normal, self.camera.position, size)
        colors = self._color(self.rays, self.depth, self.face, self.normal, lighting)
        faces = self.face.reshape(size)
        rows, columns = np.nonzero(_mixed(faces))
        mixed = rows * size[1] + columns
        total = np.zeros((len(mixed), 3))
        for down, right in SUBPIXELS:
            rays = self.camera.directions(rows + down, columns + right)
            depth, face, normal = self._cast(rays)
            # Light varies slowly over a face: a nearby pixel's serves for the part of a pixel.
            near = _same_face(faces, rows, columns, face)
            total += self._color(rays, depth, face, normal, lighting[near])
        colors[mixed] = total / len(SUBPIXELS)
        return colors.reshape(*size, 3)


def _mixed(faces: Ints) -> NDArray[np.bool_]:
    """Return where a pixel shows another face than one of its four neighbours."""
    mixed = np.zeros(faces.shape, dtype=np.bool_)
    across, down = faces[:, 1:] != faces[:, :-1], faces[1:] != faces[:-1]
    for part, differ in ((mixed[:, 1:], across), (mixed[:, :-1], across), (mixed[1:], down), (mixed[:-1], down)):
        part |= differ
    return mixed


def render_room(seed: int, index: int, height: int, width: int) -> RoomImage:
    """Return image ``index`` of the data set of ``seed`` (both at least 0; sides of at least 16 pixels), a pure function."""
    rng = Draws(np.random.PCG64([seed, index]))
    scene = sample_scene(rng)
    solids = scene.ordered()
    materials = scene.materials[[s.material for s in solids]]
    surfaces = Surfaces(scene.geometry(), np.array([s.half for s in solids]), materials)
    camera = choose_camera(rng, scene, surfaces.geometry, height, width)
    view = _View(scene, surfaces, camera)
    size = (height, width)
    names = CLASS_SETS["nyud40"]
    instances = np.array([s.instance for s in solids])[view.face // FACES]
    classes = np.array([names.index(label) for label in scene.piece.labels], dtype=np.uint8)
    # Rows right, up, forward: the third coordinate of a normal towards the camera is minus its part along forward.
    right, up, forward = camera.axes
    normals = np.stack([dot(view.normal, axis) for axis in (right, up, -forward)], axis=-1).reshape(*size, 3)
    depth = view.depth.reshape(size)
    return RoomImage(
        image=develop(view.radiance(), rng),
        depth=depth.astype(np.float32),
        normals=normals.astype(np.float32),
        semseg=classes[instances].reshape(size),
        boundary=boundaries(instances.reshape(size), view.face.reshape(size), normals, depth),
        intrinsics=camera.record(),
    )
