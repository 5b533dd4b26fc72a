"""Result files in common formats, which ``python -m mtlsi_net.score`` reads too."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mtlsi_net.inference.result import TaskResult

MILLIMETRES = 1000
FARTHEST = 65535
"""Largest depth in millimetres that 16 bits hold; farther pixels are clipped to it, but exact in the .npy."""


def write_result(result: TaskResult, stem: Path) -> list[Path]:
    """Write one task's prediction beside ``stem``, a path without suffix; return the files.

    classes: 8-bit PNG of 0, 1, ... with a palette, 16-bit of more than 255 classes. scalar: ``.npy``, float32 metres, and
    16-bit PNG of millimetres. vector:
    ``.npy``, float32 (H, W, 3) unit vectors, and PNG of 127.5 (n + 1). binary: 8-bit PNG, trunc(255 * probability).
    """
    array, kind = result.numpy(), result.task.target.kind
    if kind in ("scalar", "vector"):
        array = array.astype(np.float32)
    if kind == "classes":
        wide, palette = result.task.target.wide, getattr(result.task, "palette", None)
        picture = Image.fromarray(array.astype(np.uint16 if wide else np.uint8))
        if palette is not None and not wide:
            picture.putpalette(palette.flatten().tolist())
    elif kind == "scalar":
        picture = Image.fromarray((array * MILLIMETRES).round().clip(0, FARTHEST).astype(np.uint16))
    elif kind == "vector":
        picture = Image.fromarray(((array + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
    else:
        picture = Image.fromarray((array * 255).clip(0, 255).astype(np.uint8))
    files = [stem.with_name(f"{stem.name}.png")]
    picture.save(files[0], compress_level=3)
    if kind in ("scalar", "vector"):
        files.insert(0, stem.with_name(f"{stem.name}.npy"))
        np.save(files[0], array)
    return files


def name_results(images: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each image's results: its stem, with as many parent folders as make it unique.

    ``a/1.png`` and ``b/1.png`` become ``a_1`` and ``b_1``; ``1.png`` and ``1.jpg`` of one folder ``1_png`` and ``1_jpg``.
    """
    beside = _repeated(str(path.resolve().with_suffix("")) for path in images)
    stems = {
        path: f"{path.stem}_{path.suffix[1:]}" if str(path.resolve().with_suffix("")) in beside else path.stem
        for path in images
    }
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
