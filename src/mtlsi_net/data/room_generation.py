"""Writing generated rooms in the NYUDv2 on-disk layout (protocol page, section 1.2); a broken-off run continues."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock
from rich.progress import track

from mtlsi_net.data.room_renderer import MIN_SIDE, RoomImage, render_room
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.processes import one_thread

VERSION = 2
"""Counts up whenever the same seed gives other images."""
FOLDERS = {"images": ".png", "depth": ".npy", "segmentation": ".png", "normals": ".png", "edge": ".png"}
CAMERAS = "cameras"
"""Folder of one JSON file for each image; ``cameras.json`` is put together from them at the end."""
REQUEST, ALL_CAMERAS = "rooms.json", "cameras.json"
MAX_IMAGES = 9999
PNG_LEVEL = 4
PART = ".part"

Writer = Callable[[Path], None]


def generate_rooms(
    root: Path,
    *,
    train: int,
    val: int,
    height: int,
    width: int,
    seed: int,
    workers: int = 0,
    progress: bool = True,
) -> None:
    """Write ``train`` + ``val`` rooms to ``root``; what is there already is kept, so that a broken-off run continues.

    Of several calls at once, in any processes, one writes and the others wait. A complete folder is not written to.
    The files do not depend on ``workers``. Ids are "0001"..., first the training images, then the validation images.

    Args:
        root: folder to make, or to complete.
        train: training images, at least 1.
        val: validation images, at least 1.
        height: pixels, at least 16.
        width: pixels, at least 16.
        seed: of all randomness, at least 0.
        workers: processes; 0 means one for each core.
        progress: show a progress bar.

    Raises:
        UserError: a number out of range; ``root`` cannot be written, or holds other data than asked for.
    """
    root = Path(root)
    request = {"version": VERSION, "seed": seed, "height": height, "width": width, "train": train, "val": val}
    _check_numbers(request, workers)
    with _writable(root), _alone(root):
        _claim(root, request)
        todo = [index for index in range(train + val) if not _is_done(root, index)]
        job = partial(_make_image, root, seed, height, width)
        if not todo and (root / ALL_CAMERAS).is_file():
            return
        count = min(workers or os.cpu_count() or 1, len(todo))
        bar = track(_each(job, todo, count), "rooms", total=len(todo), disable=not (progress and todo))
        for _ in bar:
            pass
        _finish(root, train, val)


def _check_numbers(request: dict[str, int], workers: int) -> None:
    least = {"seed": 0, "height": MIN_SIDE, "width": MIN_SIDE, "train": 1, "val": 1}
    for name, minimum in least.items():
        if request[name] < minimum:
            raise UserError(f"rooms: {name}={request[name]} is too small; give at least {minimum}")
    if request["train"] + request["val"] > MAX_IMAGES:
        raise UserError(
            f"rooms: {request['train']} + {request['val']} images; ids have 4 digits, ask for {MAX_IMAGES} or fewer"
        )
    if workers < 0:
        raise UserError(f"rooms: workers={workers}; give 0 for all cores, or a positive number")


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    """Turn what the file system refuses into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{root}: rooms cannot be written ({error}); choose another root, or mend its permissions or free space"
        ) from error


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until no other process writes ``root``; there is none where this one could not."""
    if (root / ALL_CAMERAS).is_file() and not os.access(root.parent, os.W_OK):
        yield
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        yield


def _claim(root: Path, request: dict[str, int]) -> None:
    """Make the folders and note what they are for; refuse a folder that was made for something else."""
    path = root / REQUEST
    if path.exists():
        differ = _differences(path, request)
        if differ:
            raise UserError(
                f"{path}: the folder holds other rooms ({differ}); delete the folder or choose another root"
            )
        return
    taken = [name for name in (*FOLDERS, "gt_sets") if (root / name).exists()]
    if taken:
        raise UserError(f"{root}: holds {taken[0]}/ but no {REQUEST}, so it was not generated; choose another root")
    for name in (*FOLDERS, CAMERAS, "gt_sets"):
        (root / name).mkdir(parents=True, exist_ok=True)
    _write_json(path, request)


def _differences(path: Path, request: dict[str, int]) -> str:
    """Return in words how a note differs from what is asked for; empty if it does not."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return "its note cannot be read"
    return ", ".join(
        f"{key} {found.get(key)} instead of {value}" for key, value in request.items() if found.get(key) != value
    )


def _id(index: int) -> str:
    return f"{index + 1:04d}"


def _files(root: Path, index: int) -> dict[str, Path]:
    """Return the files of one image: folder name -> path."""
    return {name: root / name / f"{_id(index)}{suffix}" for name, suffix in {**FOLDERS, CAMERAS: ".json"}.items()}


def _is_done(root: Path, index: int) -> bool:
    return all(path.is_file() for path in _files(root, index).values())


def _each(job: Callable[[int], None], todo: list[int], workers: int) -> Iterator[None]:
    """Run ``job`` for all indices, in processes where there is more than one worker."""
    if workers <= 1:
        yield from map(job, todo)
        return
    # Compile here, so that the workers find the code in numba's cache instead of all compiling it.
    render_room(0, 0, MIN_SIDE, MIN_SIDE)
    # Not forked: the caller may hold threads (torch, OpenCV), which a fork would break.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, initializer=one_thread) as pool:
            yield from pool.map(job, todo)
    except BrokenProcessPool:
        raise UserError(
            "rooms: a rendering process died. In a script of your own, call generate_rooms below "
            "`if __name__ == '__main__':`, or pass workers=1; otherwise memory ran out: pass fewer workers"
        ) from None


def _make_image(root: Path, seed: int, height: int, width: int, index: int) -> None:
    """Render one image and write its files."""
    room = render_room(seed, index, height, width)
    files = _files(root, index)
    for name, pixels in encode(room).items():
        _write(files[name], partial(_write_png, pixels=pixels))
    _write(files["depth"], partial(_write_npy, values=room.depth))
    _write_json(files[CAMERAS], room.intrinsics)


def encode(room: RoomImage) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return the PNG pixels of a room, by folder; colour and normals in RGB order."""
    return {
        "images": room.image,
        "segmentation": room.semseg + np.uint8(1),
        "normals": ((room.normals + 1) * 127.5).round().astype(np.uint8),
        "edge": room.boundary * np.uint8(255),
    }


def _write(path: Path, writer: Writer) -> None:
    """Write a file so that it is there completely or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    writer(part)
    os.replace(part, path)


def _write_png(path: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    _, data = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    path.write_bytes(data.tobytes())


def _write_npy(path: Path, values: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    with path.open("wb") as file:
        np.save(file, values)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write(path, lambda part: _write_text(part, json.dumps(value, indent=1) + "\n"))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def _finish(root: Path, train: int, val: int) -> None:
    """Write the split lists, gather the cameras, and remove what a broken-off run left half-written."""
    ids = [_id(index) for index in range(train + val)]
    for split, part in (("train", ids[:train]), ("val", ids[train:])):
        text = "\n".join(part) + "\n"
        _write(root / "gt_sets" / f"{split}.txt", partial(_write_text, text=text))
    for leftover in root.glob(f"*/*{PART}"):
        leftover.unlink()
    cameras = {i: json.loads((root / CAMERAS / f"{i}.json").read_text()) for i in ids}
    _write_json(root / ALL_CAMERAS, cameras)
