"""Reader of saved predictions, from any method: folders, file names and formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.decoding import decode
from mtlsi_net.data.encoding import Encoding
from mtlsi_net.data.files import read_metres, read_target, read_vectors
from mtlsi_net.data.reader import names_in
from mtlsi_net.data.transforms import Floats

SUFFIXES = {
    "classes": (".png", ".npy"),
    "binary": (".png", ".npy"),
    "scalar": (".npy", ".npz", ".mat", ".png"),
    "vector": (".npy", ".npz", ".png"),
}
"""Kind of a task's target -> suffixes of its predictions; of several files the first one counts."""

NAMES = {
    "semseg": ("segmentation",),
    "human_parts": ("parts",),
    "saliency": ("sal",),
    "normals": ("normal",),
    "boundary": ("edge",),
}
"""Task -> what others call it in names of folders and files; its own name always serves."""

PREDICTIONS = Encoding(zero_based=True, prefix="")
"""What files of predictions hold unless settings say otherwise."""


@dataclass(frozen=True)
class PredictionFiles:
    """Where one task's predictions lie: ``<folder>/<id><ending><suffix>``.

    ``owners``: name of a prediction -> ids of the images that it may belong to, see ``owners_of_names``.
    """

    folder: Path
    ending: str
    suffixes: Sequence[str]
    owners: Mapping[str, Sequence[str]]
    names: Callable[[Path], frozenset[str]] = field(default_factory=lambda: cache(names_in), compare=False, repr=False)

    @property
    def pattern(self) -> str:
        """What the files are called."""
        return str(self.folder / f"<id>{self.ending}{'|'.join(self.suffixes)}")

    def path(self, sample_id: str) -> Path | None:
        """Return the prediction of one image; None if there is none, a UserError if it may be that of another image.

        That of ``a/1`` lies in a subfolder ``a``, or is called ``a_1``, or ``1``, as ``predict`` names its results.
        """
        for name in _short_names(sample_id):
            for suffix in self.suffixes:
                path = self.folder / f"{name}{self.ending}{suffix}"
                if path.name not in self.names(path.parent):
                    continue
                if name != sample_id and len(self.owners.get(name, ())) > 1:
                    raise UserError(
                        f"{path} may be the prediction of several images ({shown(self.owners[name])}); give each its own, "
                        f"e.g. {self.folder / f'{sample_id}{self.ending}{suffix}'}"
                    )
                return path
        return None

    def others(self, ids: Sequence[str]) -> list[str]:
        """Return the names of files that look like predictions, but of none of ``ids``."""
        endings = tuple(f"{self.ending}{suffix}" for suffix in self.suffixes)
        known = {f"{stem}{ending}" for i in ids for stem in _short_names(i) for ending in endings}
        return sorted(name for name in self.names(self.folder) if name.endswith(endings) and name not in known)


def _short_names(sample_id: str) -> list[str]:
    """Return what an image's predictions may be called, the id first, without repetitions."""
    return list(dict.fromkeys((sample_id, sample_id.replace("/", "_"), Path(sample_id).name)))


def owners_of_names(ids: Sequence[str]) -> dict[str, list[str]]:
    """Return name -> the images that predictions of this name may belong to."""
    owners: dict[str, list[str]] = {}
    for sample_id in ids:
        for name in _short_names(sample_id):
            owners.setdefault(name, []).append(sample_id)
    return owners


def names_of(task: str) -> tuple[str, ...]:
    """Return the names that predictions of a task are looked for under."""
    return task, *NAMES.get(task, ())


def find_predictions(root: Path, task: str, spec: TargetSpec, ids: Sequence[str]) -> PredictionFiles | None:
    """Return where a task's predictions of the images ``ids`` lie under ``root``; None if nowhere.

    Either in a folder of their own, ``<name>/<id>.png``, or with all others, ``<id>_<name>.png``; a UserError if both.
    """
    names, suffixes, owners = names_of(task), SUFFIXES[spec.kind], owners_of_names(ids)
    own = [PredictionFiles(root / n, "", suffixes, owners) for n in names if (root / n).is_dir()]
    together = [PredictionFiles(root, f"_{name}", suffixes, owners) for name in names]
    found = own + [files for files in together if any(files.path(sample_id) for sample_id in ids)]
    if len(found) > 1:
        places = " and ".join(files.pattern for files in found)
        raise UserError(f"{root} holds predictions of {task} twice ({places}); move one of them away")
    return found[0] if found else None


def read_prediction(path: Path, spec: TargetSpec, encoding: Encoding = PREDICTIONS) -> Floats:
    """Return a saved prediction, (H, W, spec.channels) float32, NaN where the file holds none.

    Files are read as label files are, see ``files.read_target``. classes: 0, 1, ..., ``spec.ignore`` none, or as
    ``encoding`` says;
    binary: 255 is probability 1; scalar: metres as floats, or numbers with a ``depth_scale``, negative ones too; vector:
    127.5 (n + 1) in bytes, or floats of any length. A UserError for any other content.
    """
    if spec.kind == "classes":
        label = read_target(path, spec, encoding)
        return np.where(label == spec.ignore, np.float32(np.nan), label.astype(np.float32))
    if spec.kind == "binary":
        return decode(read_target(path, spec, encoding), spec.kind)
    values = read_vectors(path) if spec.kind == "vector" else read_metres(path, encoding, most=0)[..., None]
    if values.dtype == np.uint8:
        return decode(values, spec.kind)
    return np.where(np.isfinite(values), values, np.nan).astype(np.float32)
