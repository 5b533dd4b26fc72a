"""Results on disk, in formats that other programs read; ``python -m mtlsi_net.score`` reads them too."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mtlsi_net.prediction.about import describe_tasks
from mtlsi_net.prediction.result import TaskResult
from mtlsi_net.tasks.base import Task
from mtlsi_net.utils.io import write_json

MILLIMETRES = 1000
FARTHEST = 65535
"""Millimetres: what 16 bits hold. Farther pixels are stored as that; the .npy has them all."""


def write_result(result: TaskResult, stem: Path) -> list[Path]:
    """Write one task's prediction beside ``stem``, a path without suffix; return the files.

    classes: 8-bit PNG of 0, 1, ... with a palette. scalar: ``.npy``, float32 metres, and 16-bit PNG of millimetres. vector:
    ``.npy``, float32 (H, W, 3) unit vectors, and PNG of 127.5 (n + 1). binary: 8-bit PNG, trunc(255 * probability).
    """
    return _WRITERS[result.task.target.kind](result, stem)


def _classes(result: TaskResult, stem: Path) -> list[Path]:
    image = Image.fromarray(result.numpy().astype(np.uint8))
    palette = getattr(result.task, "palette", None)
    if palette is not None:
        image.putpalette(palette.flatten().tolist())
    return [_save(image, stem)]


def _scalar(result: TaskResult, stem: Path) -> list[Path]:
    metres = result.numpy().astype(np.float32)
    millimetres = (metres * MILLIMETRES).round().clip(0, FARTHEST).astype(np.uint16)
    return [_save_array(metres, stem), _save(Image.fromarray(millimetres), stem)]


def _vector(result: TaskResult, stem: Path) -> list[Path]:
    vectors = result.numpy().astype(np.float32)
    image = Image.fromarray(((vectors + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
    return [_save_array(vectors, stem), _save(image, stem)]


def _binary(result: TaskResult, stem: Path) -> list[Path]:
    return [_save(Image.fromarray((result.numpy() * 255).clip(0, 255).astype(np.uint8)), stem)]


def _save(image: Image.Image, stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.png")
    image.save(path, compress_level=3)
    return path


def _save_array(array: np.ndarray, stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.npy")
    np.save(path, array)
    return path


_WRITERS = {"classes": _classes, "scalar": _scalar, "vector": _vector, "binary": _binary}


def write_meaning(tasks: Mapping[str, Task], path: Path) -> None:
    """Write what the numbers in the files mean: units and class names, as JSON."""
    write_json(path, describe_tasks(tasks))


def name_results(images: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each image's results: its stem; of equal ones as much of the path before it as it takes.

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
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
