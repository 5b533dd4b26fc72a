"""Generator of rooms in the NYUDv2 on-disk layout (docs/protocol/nyudv2.md); interrupted runs resume."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from filelock import FileLock
from rich.progress import track

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import atomic_file
from mtlsi_net.core.parallel import map_in_processes

if TYPE_CHECKING:  # compiled code, slow to import: only where something is rendered
    from mtlsi_net.data.rooms.render import RoomImage

log = logging.getLogger(__name__)

VERSION = 3
"""Counts up whenever the same seed gives other images."""
CAMERAS = "cameras"
"""Folder of one JSON file for each image; ``cameras.json`` is put together from them at the end."""
FOLDERS = dict.fromkeys(("images", "segmentation", "normals", "edge"), ".png") | {"depth": ".npy", CAMERAS: ".json"}
REQUEST, ALL_CAMERAS = "rooms.json", "cameras.json"
MAX_IMAGES = 9999
MIN_SIDE = 16
PNG_LEVEL = 4


def generate_rooms(
    root: Path, *, train: int, val: int, height: int, width: int, seed: int, workers: int = 0, progress: bool = True
) -> None:
    """Write ``train`` + ``val`` rooms to ``root``; existing images are kept, so that an interrupted run resumes.

    Of several calls at once, in any processes, one writes and the others wait. A complete folder is not written to.
    The files depend neither on ``workers`` nor on the CPU. Ids are "0001"..., first the training images, then the
    validation images.
    ``train`` and ``val`` are at least 1, ``height`` and ``width`` at least 16 pixels, ``seed`` at least 0; ``workers`` = 0
    means a process for each core.

    Raises:
        UserError: a number out of range; ``root`` cannot be written, or holds other data than asked for.
    """
    root = Path(root)
    request = {"version": VERSION, "seed": seed, "height": height, "width": width, "train": train, "val": val}
    _check_numbers(request | {"workers": workers})
    with _locked(root):
        _claim(root, request)
        indices = range(train + val)
        todo = [index for index in indices if not all(path.is_file() for path in _files(root, index).values())]
        job = partial(_make_image, root, seed, height, width)
        if not todo and (root / ALL_CAMERAS).is_file():
            return
        if todo:
            fewer = "data.prepare.train=200 data.prepare.val=20 data.root=FOLDER"
            log.info("rendering %d rooms of %dx%d into %s, once; for fewer: %s", len(todo), height, width, root, fewer)
        if workers != 1 and len(todo) > 1:  # compiled here, so that the processes find the code in numba's cache
            from mtlsi_net.data.rooms.render import render_room

            render_room(0, 0, MIN_SIDE, MIN_SIDE)
        made = map_in_processes(job, todo, workers, chunk=1)
        for _ in track(made, "rooms", total=len(todo), disable=not (progress and todo)):
            pass
        _finish(root, train, val)


def _check_numbers(request: dict[str, int]) -> None:
    least = {"seed": 0, "height": MIN_SIDE, "width": MIN_SIDE, "train": 1, "val": 1, "workers": 0}
    for name, minimum in least.items():
        if request[name] < minimum:
            raise UserError(f"rooms: {name}={request[name]} is too small; give at least {minimum}")
    if request["train"] + request["val"] > MAX_IMAGES:
        raise UserError(
            f"rooms: {request['train']} + {request['val']} images; ids have 4 digits, ask for {MAX_IMAGES} or fewer"
        )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one process at a time write ``root``; turn errors of the file system into a UserError."""
    try:
        if (root / ALL_CAMERAS).is_file() and not os.access(root.parent, os.W_OK):
            yield  # the folder is not writable
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.parent / f".{root.name}.lock"):
            yield
    except OSError as error:
        raise UserError(
            f"{root}: rooms cannot be written ({error}); choose another root, or fix its permissions or free disk space"
        ) from error


def _claim(root: Path, request: dict[str, int]) -> None:
    """Record the request and create the folders; a UserError if the root was made for another one."""
    path = root / REQUEST
    if path.exists():
        try:
            recorded = dict(json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise UserError(f"{path} cannot be read; delete the folder or choose another root") from None
        differ = [
            f"{key} {recorded.get(key)} instead of {value}"
            for key, value in request.items()
            if recorded.get(key) != value
        ]
        if differ:
            raise UserError(
                f"{path}: the rooms were made with other settings ({', '.join(differ)}); delete the folder or choose another root"
            )
    else:
        taken = [name for name in (*FOLDERS, "gt_sets") if (root / name).exists()]
        if taken:
            raise UserError(f"{root}: holds {taken[0]}/ but no {REQUEST}, so it was not generated; choose another root")
        root.mkdir(exist_ok=True)
        _write_json(path, request)  # before the folders: what is interrupted in between can be resumed
    for name in (*FOLDERS, "gt_sets"):
        (root / name).mkdir(exist_ok=True)


def _id(index: int) -> str:
    return f"{index + 1:04d}"


def _files(root: Path, index: int) -> dict[str, Path]:
    """Return the files of one image: folder name -> path."""
    return {name: root / name / f"{_id(index)}{suffix}" for name, suffix in FOLDERS.items()}


def _make_image(root: Path, seed: int, height: int, width: int, index: int) -> None:
    """Render one image and write its files."""
    from mtlsi_net.data.rooms.render import render_room

    room = render_room(seed, index, height, width)
    files = _files(root, index)
    for name, pixels in encode(room).items():
        stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        _write(files[name], cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])[1].tobytes())
    with atomic_file(files["depth"], durable=False) as file:
        np.save(file, room.depth)
    _write_json(files[CAMERAS], room.intrinsics)


def encode(room: "RoomImage") -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return the PNG pixels of a room, by folder; colour and normals in RGB order."""
    return {
        "images": room.image,
        "segmentation": room.semseg + np.uint8(1),
        "normals": ((room.normals + 1) * 127.5).round().astype(np.uint8),
        "edge": room.boundary * np.uint8(255),
    }


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path, durable=False) as file:
        file.write(content)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write(path, (json.dumps(value, indent=1) + "\n").encode())


def _finish(root: Path, train: int, val: int) -> None:
    """Write the split lists, gather the cameras, and remove incomplete files of an interrupted run."""
    ids = [_id(index) for index in range(train + val)]
    for split, part in (("train", ids[:train]), ("val", ids[train:])):
        _write(root / "gt_sets" / f"{split}.txt", ("\n".join(part) + "\n").encode())
    for leftover in root.glob("*/*.tmp"):
        leftover.unlink()
    cameras = {i: json.loads((root / CAMERAS / f"{i}.json").read_text()) for i in ids}
    _write_json(root / ALL_CAMERAS, cameras)
