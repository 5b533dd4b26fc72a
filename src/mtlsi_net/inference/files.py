"""Result files in common formats, which ``python -m mtlsi_net.score`` reads too."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlsi_net.inference.result import TaskResult

MILLIMETRES = 1000
FARTHEST = 65535
"""Largest depth in millimetres that 16 bits hold; farther pixels are clipped to it, but exact in the .npy."""


def write_result(result: TaskResult, stem: Path) -> list[Path]:
    """Write one task's prediction beside ``stem``, a path without suffix; return the files.

    classes: 8-bit PNG of 0, 1, ... with a palette, 16-bit of more than 255 classes. scalar: ``.npy``, float32 in the
    task's unit, metres of depth, and 16-bit PNG of thousandths of it. vector:
    ``.npy``, float32 (H, W, 3) unit vectors, and PNG of 127.5 (n + 1). binary: 8-bit PNG, trunc(255 * probability).
    """
    array, kind = result.numpy(), result.task.target.kind
    if kind in ("scalar", "vector"):
        array = array.astype(np.float32)
    files = [stem.with_name(f"{stem.name}.png")]
    palette = getattr(result.task, "palette", None)
    if kind == "classes" and palette is not None and not result.task.target.wide:
        picture = Image.fromarray(array.astype(np.uint8))
        picture.putpalette(palette.flatten().tolist())
        picture.save(files[0], compress_level=3)
    elif kind == "classes":
        save_png(files[0], array.astype(np.uint16 if result.task.target.wide else np.uint8))
    elif kind == "scalar":
        save_png(files[0], (array * MILLIMETRES).round().clip(0, FARTHEST).astype(np.uint16))
    elif kind == "vector":
        save_png(files[0], ((array + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
    else:
        save_png(files[0], (array * 255).clip(0, 255).astype(np.uint8))
    if kind in ("scalar", "vector"):
        files.insert(0, stem.with_name(f"{stem.name}.npy"))
        np.save(files[0], array)
    return files


def save_png(path: Path, picture: Image.Image | NDArray[Any], level: int | None = None) -> None:
    """Write a picture, (H, W, 3) RGB or (H, W), of 8 or 16 bits.

    Without a compression level, OpenCV looks for repeated values only: half of Pillow's time, and other threads run
    meanwhile. With a level, 1 to 9, large areas of one colour become smaller files.
    """
    pixels = np.asarray(picture)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    options = [] if level is None else [cv2.IMWRITE_PNG_COMPRESSION, level]
    path.write_bytes(cv2.imencode(".png", pixels, options)[1].tobytes())


def name_results(images: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each image's results: its stem, with as many parent folders as make it unique.

    ``a/1.png`` and ``b/1.png`` become ``a_1`` and ``b_1``; ``1.png`` and ``1.jpg`` of one folder ``1_png`` and ``1_jpg``.
    """
    stems, bare = {path: path.stem for path in images}, set(images)
    while True:  # with a suffix a name may be that of another image: of 1_png.tif
        beside = _repeated(str(path.resolve().with_name(stem)) for path, stem in stems.items())
        clashing = {path for path in bare if str(path.resolve().with_name(stems[path])) in beside}
        if not clashing:
            break
        stems |= {path: f"{path.stem}_{path.suffix[1:]}" for path in clashing}
        bare -= clashing
    names = dict(stems)
    for depth in range(1, max((len(path.resolve().parts) for path in images), default=0)):
        clashes = _repeated(names.values())
        if not clashes:
            break
        for path, name in names.items():
            if name in clashes:
                names[path] = "_".join([*path.resolve().parent.parts[1:][-depth:], stems[path]])
    return names


def _repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}
