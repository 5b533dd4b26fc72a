"""The official ``nyu_depth_v2_labeled.mat``: what is read from it and how its maps become label files of this suite."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.data.class_sets import CLASS_SETS
from mtlsi_net.data_tools.class_maps import FROM_40_TO_13, LABELS, ClassMap, official_map, read_map
from mtlsi_net.data_tools.plane_normals import Intrinsics, fit_normals
from mtlsi_net.data_tools.segment_boundaries import segment_boundaries

if TYPE_CHECKING:
    import h5py

OFFICIAL_FILE = "nyu_depth_v2_labeled.mat"
HEIGHT, WIDTH = 480, 640
CROP = slice(45, 470), slice(40, 600)
"""The 425x560 pixels of the copy behind published numbers: rows 46:470 and columns 41:600 in Matlab's counting."""
CAMERA = Intrinsics(518.857901, 519.469611, 325.582449 - 1, 253.736166 - 1)
"""Of the colour images, which depth was projected to; from the data set's toolbox, which counts pixels from 1."""
ARRAYS = {
    "images": ((3, WIDTH, HEIGHT), "u"),
    "depths": ((WIDTH, HEIGHT), "f"),
    "rawDepths": ((WIDTH, HEIGHT), "f"),
    "labels": ((WIDTH, HEIGHT), "u"),
    "instances": ((WIDTH, HEIGHT), "u"),
}
"""Array -> shape of one image's part, Matlab's order of axes reversed, and kind of number."""
MOST_AT_ONCE = 16
"""Images in memory at once, where the file's chunks span several."""
MATLAB_5 = b"MATLAB 5.0 MAT-file"


class LabelledImage(NamedTuple):
    """One image of the file, rows first: image (H, W, 3) uint8, depths (H, W) float32 metres, labels and instances (H, W)."""

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    raw_depth: NDArray[np.float32]
    labels: NDArray[np.uint16]
    instances: NDArray[np.uint8]


class NyuMat:
    """How the official file is prepared.

    Args:
        depth: which depth to write, ``inpainted`` or ``raw``; normals are fitted to measured pixels in either case.
        classes: label maps to write, of 40, 13 or 894 classes.
        class_map: file of a mapping that replaces the 40 classes, see ``class_maps.read_map``; None: the published one.
        crop: cut to the pixels of the copy behind published numbers.

    Raises:
        UserError: no or unknown classes, or a mapping that cannot be read or has no classes to replace.
    """

    def __init__(
        self,
        depth: Literal["inpainted", "raw"] = "inpainted",
        classes: Sequence[int] = (40, 13),
        class_map: Path | None = None,
        crop: bool = True,
    ) -> None:
        self.depth, self.crop, self.class_map = depth, crop, class_map
        known = (len(FROM_40_TO_13), max(FROM_40_TO_13), LABELS)
        if not classes or not set(classes) <= set(known) or len(set(classes)) != len(classes):
            raise UserError(f"source.classes={list(classes)}: give one or several of {', '.join(map(str, known))}")
        if class_map is not None and len(FROM_40_TO_13) not in classes:
            raise UserError("source.class_map replaces the 40 classes; add 40 to source.classes")
        self.maps: dict[str, ClassMap] = {}
        for count in classes:
            own = count == len(FROM_40_TO_13) and class_map is not None
            folder = "segmentation" if count == len(FROM_40_TO_13) else f"segmentation{count}"
            self.maps[folder] = read_map(Path(str(class_map)).expanduser()) if own else official_map(count)

    def settings(self) -> dict[str, Any]:
        """Return what the written files depend on, as JSON values."""
        classes = {folder: int(own.max()) for folder, own in self.maps.items()}
        return {
            "depth": self.depth,
            "classes": classes,
            "class_map": None if self.class_map is None else self.maps["segmentation"].tolist(),
            "crop": self.crop,
        }

    def differences(self) -> list[str]:
        """Return in words what differs from the copy behind published numbers."""
        texts = [
            "normals: planes fitted to the measured depth, with pixels that have none",
            "boundary: changes of label or instance, unlabelled strips up to 16 pixels wide closed",
        ]
        if self.depth == "raw":
            texts.append("depth: as measured, with missing pixels")
        if self.class_map is not None:
            texts.append("semseg: classes of your own mapping")
        if not self.crop:
            texts.append("images of 480x640 pixels instead of 425x560")
        return texts

    def label_files(self, sample: LabelledImage) -> dict[str, NDArray[Any]]:
        """Return folder -> array of one image's files, as ``data.nyud`` reads them."""
        part = CROP if self.crop else (slice(None), slice(None))
        normals = fit_normals(sample.depth, sample.raw_depth > 0, CAMERA)
        segments = sample.labels.astype(np.int64) * 256 + sample.instances
        files: dict[str, NDArray[Any]] = {
            "images": sample.image[part],
            "depth": (sample.depth if self.depth == "inpainted" else sample.raw_depth)[part],
            "normals": np.round((normals[part] + 1) * 127.5).astype(np.uint8),  # no normal: 128, a short vector
            "edge": segment_boundaries(np.where(sample.labels > 0, segments, 0))[part],
        }
        for folder, mapping in self.maps.items():
            classes = mapping[sample.labels][part]
            files[folder] = classes.astype(np.uint8) if mapping.max() < 256 else classes
        return files


class LabelledFile:
    """The open file: ``count`` images and the ``names`` of its labels; everything is checked before it is used."""

    def __init__(self, path: Path, file: "h5py.File") -> None:
        self.path, self._file = path, file
        if missing := [name for name in (*ARRAYS, "names") if name not in file]:
            found = shown(name for name in file if not name.startswith("#"))
            raise self._foreign(f"it has no {', '.join(missing)} (found: {found or 'nothing'})")
        counts = {name: self._check_array(name) for name in ARRAYS}
        self.count = counts["images"]
        if len(set(counts.values())) > 1 or not self.count:
            raise self._foreign(f"its arrays hold {', '.join(f'{n} {name}' for name, n in counts.items())}")
        self.names = self._read_names()

    def _foreign(self, reason: str) -> UserError:
        return UserError(f"{self.path} is not {OFFICIAL_FILE}: {reason}; give the official file, as it was downloaded")

    def _check_array(self, name: str) -> int:
        """Return how many images an array holds."""
        import h5py

        array, (shape, kind) = self._file[name], ARRAYS[name]
        if not isinstance(array, h5py.Dataset):
            raise self._foreign(f"{name} is no array")
        if array.shape[1:] != shape or array.ndim != len(shape) + 1 or array.dtype.kind != kind:
            wanted = "whole numbers" if kind == "u" else "floats"
            raise self._foreign(
                f"{name} is {array.dtype} of shape {array.shape}, expected {wanted} of shape (images, "
                f"{', '.join(map(str, shape))})"
            )
        return int(array.shape[0])

    def _read_names(self) -> list[str]:
        """Return the labels' names, of the labels 1, 2, ..., from a cell of references to texts."""
        try:
            cells = np.asarray(self._file["names"]).ravel()
            names = ["".join(map(chr, np.asarray(self._file[cell]).ravel())) for cell in cells]
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._foreign(f"the names of its labels cannot be read ({_brief(error)})") from None
        expected = official_map(len(FROM_40_TO_13))
        numbers = {name: number for number, name in enumerate(names, start=1)}
        classes = {name: number for number, name in enumerate(CLASS_SETS["nyud40"], start=1) if name in numbers}
        if len(names) != LABELS or any(expected[numbers[name]] != number for name, number in classes.items()):
            raise self._foreign(f"its list of {len(names)} labels is another one than the official list of {LABELS}")
        return names

    def images(self, numbers: Sequence[int]) -> Iterator[tuple[int, LabelledImage]]:
        """Yield (number from 0, image) of the images asked for, in ascending order, a bounded number of them in memory.

        Raises:
            UserError: the file is damaged, or holds values that it cannot hold.
        """
        span = min(MOST_AT_ONCE, max(1, *((self._file[name].chunks or (1,))[0] for name in ARRAYS)))
        wanted = sorted(numbers)
        for first in range(0, self.count, span):
            own = [number for number in wanted if first <= number < first + span]
            if not own:
                continue
            part = slice(own[0], own[-1] + 1)
            try:
                block = {name: self._file[name][part] for name in ARRAYS}
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"{self.path}: images {own[0] + 1} to {own[-1] + 1} cannot be read ({_brief(error)}); the file is damaged, "
                    "download it again; what is prepared so far stays"
                ) from None
            for number in own:
                yield number, self._sample(number, {name: array[number - own[0]] for name, array in block.items()})

    def _sample(self, number: int, arrays: dict[str, NDArray[Any]]) -> LabelledImage:
        rows_first = {name: np.ascontiguousarray(array.T) for name, array in arrays.items()}
        depth, raw = (rows_first[name].astype(np.float32, copy=False) for name in ("depths", "rawDepths"))
        labels = rows_first["labels"]
        if (most := int(labels.max())) > len(self.names):
            raise UserError(
                f"{self.path}: image {number + 1} has label {most}, but there are {len(self.names)}; the file is damaged"
            )
        if not all(np.isfinite(values).all() and values.min() >= 0 for values in (depth, raw)):
            raise UserError(
                f"{self.path}: image {number + 1} has depths that are negative or not finite; the file is damaged"
            )
        return LabelledImage(rows_first["images"], depth, raw, labels.astype(np.uint16), rows_first["instances"])


@contextmanager
def open_labelled(path: Path) -> Iterator[LabelledFile]:
    """Open the official file.

    Raises:
        UserError: h5py is not installed, or the file is missing, truncated or another one.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UserError(f"{path} needs h5py; install it with pip install 'mtlsi-net[prepare]'")
    import h5py

    try:
        with path.open("rb") as start:
            beginning = start.read(512)
    except OSError as error:
        raise UserError(f"file={path} cannot be read ({error.strerror}); give the path of {OFFICIAL_FILE}") from None
    foreign = f"{path} is not {OFFICIAL_FILE}"
    if not h5py.is_hdf5(path):
        reason = "it is empty" if not beginning else "it is no HDF5 file"
        if beginning.lstrip().lower().startswith((b"<!doctype html", b"<html")):
            reason = "it is a web page; open the address in a browser"
        elif beginning.startswith(MATLAB_5):
            reason = "it is a Matlab file of version 7 or older, the official one is of version 7.3"
        raise UserError(f"{foreign}: {reason}; give the official file, as it was downloaded")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        what = "is truncated" if "truncated" in str(error) else f"cannot be opened ({_brief(error)})"
        size = path.stat().st_size
        raise UserError(
            f"{path} {what}: {size:,} bytes, the official file has some 2.8 GB; download it again, to the end"
        ) from None
    with file:
        yield LabelledFile(path, file)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())
