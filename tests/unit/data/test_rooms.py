"""The generated rooms: rays against brute force, labels against each other, files against the renderer."""

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import context, forked_workers
from omegaconf import OmegaConf

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.class_sets import CLASS_SETS
from mtlsi_net.data.decoding import decode
from mtlsi_net.data.rooms.cameras import choose_camera
from mtlsi_net.data.rooms.datamodule import RoomsReader
from mtlsi_net.data.rooms.generate import FOLDERS, generate_rooms
from mtlsi_net.data.rooms.raycast import NO_HIT, first_hit, unblocked
from mtlsi_net.data.rooms.render import RoomImage, boundaries, render_room
from mtlsi_net.data.rooms.scenes import Room, sample_scene
from mtlsi_net.data.rooms.solids import Piece, Scene

NAMES = CLASS_SETS["nyud40"]
SMALL = {"train": 3, "val": 2, "height": 48, "width": 64, "seed": 7, "progress": False}
CONF = Path(__file__).parents[3] / "conf"

ROOM_CLASSES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "desk"),
    *("pillow", "floor mat", "ceiling", "books", "television", "box", "night stand", "lamp"),
)


@pytest.fixture(scope="module")
def small_rooms() -> list[RoomImage]:
    return [render_room(1, i, 48, 64) for i in range(40)]


@pytest.fixture(scope="module")
def rooms() -> list[RoomImage]:
    return [render_room(2, i, 212, 280) for i in range(6)]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("rooms") / "deep" / "root"
    generate_rooms(root, workers=1, **SMALL)
    return root


def rays_of(room: RoomImage) -> np.ndarray:
    """Return (H, W, 3) rays in the labels' frame: x right, y up, z towards the camera; length 1 along the axis."""
    k = room.intrinsics
    rows, columns = np.mgrid[: k["height"], : k["width"]]
    return np.stack([(columns - k["cx"]) / k["fx"], -(rows - k["cy"]) / k["fy"], -np.ones(rows.shape)], axis=-1)


def away_from(boundary: np.ndarray, pixels: int) -> np.ndarray:
    near = np.zeros(boundary.shape, dtype=bool)
    for i, j in np.argwhere(boundary):
        near[max(0, i - pixels) : i + pixels + 1, max(0, j - pixels) : j + pixels + 1] = True
    return ~near


# --- rays


SOLIDS = {
    "box": lambda p: p.box((-0.6, -0.3, -0.4), (0.6, 0.3, 0.4), 0),
    "leaning box": lambda p: p.leaning_box((0, 0, 0), (0.5, 0.2, 0.6), 0, 0.5),
    "ellipsoid": lambda p: p.ellipsoid((0, 0, 0), (0.7, 0.3, 0.5), 0),
    "cylinder": lambda p: p.cylinder((0, 0, -0.5), 0.4, 1.0, 0),
    "cone": lambda p: p.cylinder((0, 0, -0.5), 0.6, 1.0, 0, taper=0.8),
}


def is_inside(name: str, x: np.ndarray) -> np.ndarray:
    """Return which points (..., 3) lie in the solid, from its definition in words."""
    if name == "leaning box":
        c, s = np.cos(0.5), np.sin(0.5)
        y, z = c * x[..., 1] + s * x[..., 2], -s * x[..., 1] + c * x[..., 2]
        return (abs(x[..., 0]) <= 0.5) & (abs(y) <= 0.2) & (abs(z) <= 0.6)
    if name == "box":
        return (abs(x) <= (0.6, 0.3, 0.4)).all(-1)
    if name == "ellipsoid":
        return ((x / (0.7, 0.3, 0.5)) ** 2).sum(-1) <= 1
    radius = 0.4 if name == "cylinder" else 0.6 * (1 - 0.8 * (x[..., 2] + 0.5))
    return (np.hypot(x[..., 0], x[..., 1]) <= radius) & (abs(x[..., 2]) <= 0.5)


@pytest.mark.parametrize("name", SOLIDS)
def test_rays_meet_solids_where_marching_along_them_does(name):
    rng, angle, at = np.random.default_rng(0), 0.7, np.array([0.3, -0.2, 1.0])
    piece, world = Piece().begin("box"), Piece()
    SOLIDS[name](piece)
    world.absorb(piece, tuple(at), angle)
    geometry = Scene(np.ones(3), world, np.zeros(1), np.zeros((0, 2, 3))).geometry()
    origins = at + 2.5 * (v := rng.normal(size=(150, 3))) / np.linalg.norm(v, axis=1, keepdims=True)
    directions = at + rng.uniform(-0.6, 0.6, (150, 3)) - origins
    distance, face, normal = first_hit(geometry, origins, directions)

    steps = np.linspace(0, 2, 4001)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    inside = is_inside(name, (origins[:, None] + steps[:, None] * directions[:, None] - at) @ turn)
    expected = np.where(inside.any(1), steps[inside.argmax(1)], np.inf)
    hit = np.isfinite(expected)
    assert 40 < hit.sum() < 150
    np.testing.assert_array_equal(face != NO_HIT, hit)
    np.testing.assert_allclose(distance[hit], expected[hit], atol=6e-4)
    np.testing.assert_allclose(np.linalg.norm(normal[hit], axis=1), 1, atol=1e-9)
    # Just outside along the normal is outside, just inside is inside.
    point = origins + np.where(hit, distance, 0)[:, None] * directions
    assert not is_inside(name, (point + 1e-3 * normal - at) @ turn)[hit].any()
    assert is_inside(name, (point - 1e-4 * normal - at) @ turn)[hit].mean() > 0.98
    clear = abs(expected - 1) > 1e-3
    free = unblocked(geometry, origins, directions, np.flatnonzero(clear))
    np.testing.assert_array_equal(free, np.flatnonzero(clear & (expected > 1)))


def test_what_glows_blocks_no_light():
    lamp = Piece().begin("lamp")
    lamp.ellipsoid((0, 0, 0), (1, 1, 1), 0, glows=True)
    geometry = Scene(np.ones(3), lamp, np.zeros(1), np.zeros((0, 2, 3))).geometry()
    origin, reach = np.array([[-3.0, 0, 0]]), np.array([[6.0, 0, 0]])
    assert first_hit(geometry, origin, reach)[0][0] == pytest.approx(1 / 3)
    assert unblocked(geometry, origin, reach, np.arange(1)).tolist() == [0]


# --- scenes and cameras


def test_furniture_is_refused_where_something_stands_or_outside_the_room():
    room = Room(np.random.default_rng(0))
    cube = Piece().begin("box")
    cube.box((-0.2, -0.2, 0), (0.2, 0.2, 0.4), 0)
    assert room.place(cube, (1.0, 1.0, 0.0), 0.0)
    assert not room.place(cube, (1.3, 1.1, 0.0), 0.4)
    assert not room.place(cube, (0.1, 2.0, 0.0), 0.0)
    assert room.place(cube, (1.0, 1.0, 0.4), 0.3), "things may stand on each other"


def test_cameras_stand_inside_the_room_clear_of_furniture():
    for seed in range(25):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        camera = choose_camera(rng, scene, scene.geometry(), 48, 64)
        assert (camera.position > 0.2).all()
        assert (camera.position[:2] < scene.room[:2] - 0.2).all()
        low, high = scene.obstacles[:, 0] - 0.3, scene.obstacles[:, 1] + 0.3
        assert not ((camera.position > low) & (camera.position < high)).all(axis=1).any()
        np.testing.assert_allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-9)
        assert len(scene.piece.lights) >= 2


def test_a_room_without_a_free_place_is_seen_from_a_corner_through_the_images_middle(monkeypatch):
    monkeypatch.setattr("mtlsi_net.data.rooms.cameras._sample", lambda *_: None)
    rng = np.random.default_rng(0)
    scene = sample_scene(rng)
    camera = choose_camera(rng, scene, scene.geometry(), 48, 64)
    assert (camera.cx, camera.cy) == (31.5, 23.5)


# --- labels


def test_normals_agree_with_depth(rooms):
    errors = []
    for room in rooms:
        points = rays_of(room) * room.depth[..., None].astype(float)
        across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
        normal = np.cross(down, across)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        cosine = (normal * room.normals[1:-1, 1:-1]).sum(-1)[away_from(room.boundary, 2)[1:-1, 1:-1]]
        errors.append(np.degrees(np.arccos(cosine.clip(-1, 1))))
    errors = np.concatenate(errors)
    assert errors.size > 100_000
    assert np.median(errors) < 0.1
    assert np.percentile(errors, 95) < 2.0


def test_depth_and_pose_put_the_floor_at_height_zero(rooms):
    for room in rooms:
        x, y, z = np.moveaxis(rays_of(room) * room.depth[..., None], -1, 0)
        k = room.intrinsics
        height = k["position"][2] + x * k["axes"][0][2] + y * k["axes"][1][2] - z * k["axes"][2][2]
        floor, ceiling = room.semseg == NAMES.index("floor"), room.semseg == NAMES.index("ceiling")
        np.testing.assert_allclose(height[floor], 0, atol=2e-3)
        np.testing.assert_allclose(height[ceiling], height[ceiling].max(initial=0), atol=4e-3)
        up = room.normals[floor] @ np.array([k["axes"][0][2], k["axes"][1][2], -k["axes"][2][2]])
        np.testing.assert_allclose(up, 1, atol=1e-4)


def test_normals_are_unit_vectors_that_face_the_camera(small_rooms):
    for room in small_rooms:
        np.testing.assert_allclose(np.linalg.norm(room.normals, axis=-1), 1, atol=1e-5)
        assert ((room.normals * rays_of(room)).sum(-1) < 0).all()


def test_value_ranges(small_rooms):
    for room in small_rooms:
        assert room.image.shape == (48, 64, 3)
        assert (room.image.dtype, room.depth.dtype, room.normals.dtype) == (np.uint8, np.float32, np.float32)
        assert room.depth.min() > 0.2
        assert room.depth.max() < 15
        assert set(np.unique(room.boundary)) == {0, 1}
        assert {NAMES[c] for c in np.unique(room.semseg)} <= set(ROOM_CLASSES)
        assert 40 < room.image.mean() < 215
        assert room.image.std() > 10


def test_scenes_are_varied(small_rooms):
    seen = [set(np.unique(room.semseg)) for room in small_rooms]
    assert len(set.union(*seen)) >= 14
    assert np.mean([len(classes) >= 5 for classes in seen]) > 0.9
    focal = [room.intrinsics["fx"] for room in small_rooms]
    assert max(focal) > 1.5 * min(focal)


def test_scored_classes_of_the_config_are_those_drawn():
    scored = OmegaConf.load(CONF / "task" / "semseg_rooms.yaml").scored_classes
    assert sorted(scored) == sorted(ROOM_CLASSES)


def test_boundaries_are_thin_and_few(rooms):
    for room in rooms:
        assert 0.01 < room.boundary.mean() < 0.15
        full = room.boundary[:-1, :-1] & room.boundary[1:, :-1] & room.boundary[:-1, 1:] & room.boundary[1:, 1:]
        assert full.sum() < 0.25 * room.boundary.sum(), "lines are mostly one pixel wide"


def test_boundaries_of_given_maps():
    def run(instances, faces, normals, depth):
        maps = np.array(instances), np.array(faces), np.array(normals, dtype=float), np.array(depth, dtype=float)
        row = boundaries(*(m[None] for m in maps))
        np.testing.assert_array_equal(boundaries(*(m[:, None] for m in maps)).T, row)
        return row[0].tolist()

    up, side, tilted = (0, 1, 0), (1, 0, 0), (0, np.cos(0.2), np.sin(0.2))
    assert run([0, 0, 1, 1], [0, 0, 1, 1], [up] * 4, [1] * 4) == [0, 1, 0, 0], "instances meet"
    assert run([0] * 4, [0, 0, 1, 1], [up, up, side, side], [1] * 4) == [0, 1, 0, 0], "a crease"
    assert run([0] * 4, [0, 0, 1, 1], [up, up, tilted, tilted], [1] * 4) == [0] * 4, "hardly bent"
    assert run([0] * 5, [0, 0, 1, 2, 2], [up, up, side, up, up], [1] * 5) == [0] * 5, "a sliver"
    assert run([0] * 4, [0, 0, 1, 1], [up] * 4, [1, 1, 1.1, 1.1]) == [0, 1, 0, 0], "one part before another"
    assert run([0] * 4, [0] * 4, [up, up, side, side], [1, 1, 1.2, 1.2]) == [0] * 4, "one curved face"


def test_another_size_shows_the_same_room():
    small, large = render_room(5, 0, 48, 64), render_room(5, 0, 96, 128)
    assert large.intrinsics["fx"] == pytest.approx(2 * small.intrinsics["fx"], abs=1e-3)
    middle = large.depth.reshape(48, 2, 64, 2).mean(axis=(1, 3))
    flat = away_from(small.boundary, 2)
    np.testing.assert_allclose(middle[flat], small.depth[flat], rtol=0.03)


# --- files


def digests(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
    }


def test_files_hold_what_was_rendered(written):
    specs = {
        "semseg": TargetSpec(1, "classes", num_classes=40),
        "depth": TargetSpec(1, "scalar"),
        "normals": TargetSpec(3, "vector"),
        "boundary": TargetSpec(1, "binary"),
    }
    reader = RoomsReader(written, specs)
    assert reader.ids("train") == ["0001", "0002", "0003"]
    assert reader.ids("val") == ["0004", "0005"]
    reader.check_files([*reader.ids("train"), *reader.ids("val")])
    sample, room = reader.read("0004"), render_room(SMALL["seed"], 3, 48, 64)
    np.testing.assert_array_equal(sample["image"], room.image)
    np.testing.assert_array_equal(sample["semseg"][..., 0], room.semseg)
    np.testing.assert_array_equal(sample["depth"][..., 0], room.depth)
    np.testing.assert_array_equal(sample["boundary"][..., 0], 255 * room.boundary)
    np.testing.assert_allclose(decode(sample["normals"], "vector"), room.normals, atol=1 / 255 + 1e-6)
    assert json.loads((written / "cameras.json").read_text())["0004"] == room.intrinsics


def test_files_do_not_depend_on_the_number_of_workers(written, tmp_path):
    with forked_workers():
        generate_rooms(tmp_path, workers=2, **SMALL)
    assert digests(tmp_path) == digests(written)


def test_rooms_differ_between_indices_and_seeds():
    images = [render_room(*key, 16, 16).image.tobytes() for key in ((0, 0), (0, 1), (1, 0))]
    assert len(set(images)) == 3


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_two_at_once_write_what_one_writes(written, tmp_path):
    generate = partial(generate_rooms, tmp_path / "r", workers=1, **SMALL)
    both = [context().Process(target=generate) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert contents(tmp_path / "r") == contents(written)


def test_a_complete_folder_is_not_written_to(written):
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    generate_rooms(written, workers=1, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_broken_off_run_continues(written, tmp_path):
    root = tmp_path / "rooms"
    generate_rooms(root, workers=1, **SMALL)
    lost = [root / "depth" / "0002.npy", root / "edge" / "0005.png"]
    for path in lost:
        path.unlink()
    (root / "gt_sets" / "val.txt").unlink()
    (root / "depth" / "0002.123.tmp").write_bytes(b"half")
    kept = {p: p.stat().st_mtime_ns for folder in FOLDERS for p in (root / folder).glob("000[134].*")}
    generate_rooms(root, workers=1, **SMALL)
    assert digests(root) == digests(written)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 8}, "seed 7 instead of 8"),
        ({"width": 80}, "width 64 instead of 80"),
        ({"train": 4}, "train 3 instead"),
    ],
)
def test_other_rooms_in_the_folder_are_refused(written, change, said):
    before = digests(written)
    with pytest.raises(UserError, match=f"{said}.*delete the folder or choose another root"):
        generate_rooms(written, workers=1, **(SMALL | change))
    assert digests(written) == before


@pytest.mark.parametrize("text", ["{broken", "[]"])
def test_unreadable_note_is_refused(tmp_path, text):
    (tmp_path / "rooms.json").write_text(text)
    with pytest.raises(UserError, match=r"other settings|cannot be read.*delete the folder"):
        generate_rooms(tmp_path, **SMALL)


def test_foreign_data_is_never_mixed_with_rooms(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="was not generated; choose another root"):
        generate_rooms(tmp_path, **SMALL)


@pytest.mark.parametrize("made", [(), ("images",)], ids=["no folder", "one folder"])
def test_a_run_broken_off_among_its_folders_continues(tmp_path, made, monkeypatch):
    root, mkdir = tmp_path / "rooms", Path.mkdir

    def interrupt(path, *rest, **options):
        if path.parent == root and path.name not in made:
            raise KeyboardInterrupt
        mkdir(path, *rest, **options)

    monkeypatch.setattr(Path, "mkdir", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate_rooms(root, **SMALL)
    monkeypatch.undo()
    generate_rooms(root, workers=1, **SMALL)
    assert (root / "cameras.json").is_file()


def test_unwritable_root_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*cannot be written.*choose another root"):
        generate_rooms(tmp_path / "file" / "rooms", **SMALL)


@pytest.mark.parametrize(
    "change", [{"train": 0}, {"val": 0}, {"height": 8}, {"seed": -1}, {"train": 9999}, {"workers": -1}]
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path, change):
    with pytest.raises(UserError, match=rf"rooms: .*{next(iter(change.values()))}"):
        generate_rooms(tmp_path / "rooms", **(SMALL | change))
    assert not (tmp_path / "rooms").exists()
