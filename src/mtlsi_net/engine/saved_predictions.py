"""Reader of saved predictions, from any method: folders, file names and formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import IGNORE, TargetSpec
from mtlsi_net.data.decoding import decode
from mtlsi_net.data.files import read_pixels, read_stored_classes, read_target
from mtlsi_net.data.reader import names_in
from mtlsi_net.data.transforms import Floats

SUFFIXES = {"classes": (".png",), "binary": (".png",), "scalar": (".npy", ".mat"), "vector": (".npy", ".png")}
"""Kind of a task's target -> suffixes of its predictions; of several files the first one counts."""

NAMES = {
    "semseg": ("segmentation",),
    "human_parts": ("parts",),
    "saliency": ("sal",),
    "normals": ("normal",),
    "boundary": ("edge",),
}
"""Task -> what others call it in names of folders and files; its own name always serves."""

MAT_KEY = "depth"


@dataclass(frozen=True)
class PredictionFiles:
    """Where one task's predictions lie: ``<folder>/<id><ending><suffix>``."""

    folder: Path
    ending: str
    suffixes: Sequence[str]
    present: frozenset[str]

    @property
    def pattern(self) -> str:
        """What the files are called."""
        return str(self.folder / f"<id>{self.ending}{'|'.join(self.suffixes)}")

    def path(self, sample_id: str) -> Path | None:
        """Return the prediction of one image; None if there is none."""
        names = (f"{sample_id}{self.ending}{suffix}" for suffix in self.suffixes)
        return next((self.folder / name for name in names if name in self.present), None)


def names_of(task: str) -> tuple[str, ...]:
    """Return the names that predictions of a task are looked for under."""
    return task, *NAMES.get(task, ())


def find_predictions(root: Path, task: str, spec: TargetSpec, ids: Sequence[str]) -> PredictionFiles | None:
    """Return where a task's predictions of the images ``ids`` lie under ``root``; None if nowhere.

    Either in a folder of their own, ``<name>/<id>.png``, or with all others, ``<id>_<name>.png``; a UserError if both.
    """
    names, suffixes, entries = names_of(task), SUFFIXES[spec.kind], names_in(root)
    own = [PredictionFiles(root / n, "", suffixes, names_in(root / n)) for n in names if (root / n).is_dir()]
    shared = [PredictionFiles(root, f"_{name}", suffixes, entries) for name in names]
    found = own + [files for files in shared if any(files.path(sample_id) for sample_id in ids)]
    if len(found) > 1:
        places = " and ".join(files.pattern for files in found)
        raise UserError(f"{root} holds predictions of {task} twice ({places}); move one of them away")
    return found[0] if found else None


def read_prediction(path: Path, spec: TargetSpec, *, one_based: bool = False) -> Floats:
    """Return a saved prediction, (H, W, spec.channels) float32, NaN where the file holds none.

    classes: PNG of 0, 1, ..., 255 none; binary: 8-bit PNG, 255 is probability 1; scalar: metres as floats, ``.npy``, or
    ``.mat`` with a key ``depth`` or a single matrix; vector: PNG of 127.5 (n + 1), or ``.npy`` (H, W, 3) of any length.
    ``one_based`` class maps hold 1, 2, ..., as NYUDv2's labels do, and 0 for none. A UserError for any other content.
    """
    if spec.kind == "classes":
        label = read_target(path, spec) if one_based else read_stored_classes(path, spec)
        return np.where(label == IGNORE, np.float32(np.nan), label.astype(np.float32))
    if spec.kind == "binary":
        return decode(read_pixels(path, "share")[..., None], spec.kind)
    if path.suffix == ".png":
        return decode(read_target(path, spec), spec.kind)
    return _read_floats(path, spec.channels)


def _read_floats(path: Path, channels: int) -> Floats:
    values = _read_array(path)
    if channels == 1 and values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] != channels or values.dtype.kind != "f":
        shape = "(H, W)" if channels == 1 else f"(H, W, {channels})"
        raise UserError(
            f"{path}: expected floats of shape {shape}, found {values.dtype} of shape {values.shape}; "
            "depth is stored in metres, normals as x, y, z"
        )
    return np.where(np.isfinite(values), values, np.nan).astype(np.float32)


def _read_array(path: Path) -> NDArray[Any]:
    """Return the array of a ``.npy`` file; of a ``.mat`` file the one under ``MAT_KEY``, or its only matrix."""
    try:
        stored = np.load(path, allow_pickle=False) if path.suffix == ".npy" else io.loadmat(path)
    except (OSError, ValueError, TypeError, EOFError, NotImplementedError, io.matlab.MatReadError) as error:
        how = ", as version 7 or older" if path.suffix == ".mat" else ""
        raise UserError(f"{path}: cannot be read as {path.suffix} ({error}); save it again{how}") from None
    if isinstance(stored, np.ndarray):
        return stored
    matrices = {key: value for key, value in stored.items() if isinstance(value, np.ndarray) and value.ndim == 2}
    if MAT_KEY not in matrices and len(matrices) != 1:
        keys = ", ".join(sorted(matrices)) or "none"
        raise UserError(
            f"{path}: expected a key {MAT_KEY!r} or a single matrix, found {keys}; name the key {MAT_KEY!r}"
        )
    return matrices.get(MAT_KEY, next(iter(matrices.values())))
