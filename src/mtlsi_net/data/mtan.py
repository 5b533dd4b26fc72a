"""Readers and data modules of NYUv2 and Cityscapes as MTAN prepared them: numbered arrays (docs/protocol/mtan.md)."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.arrays import read_array
from mtlsi_net.data.datamodule import HEADERS
from mtlsi_net.data.encoding import Encoding
from mtlsi_net.data.nyud import NYUDLayoutDataModule, NYUDLayoutReader
from mtlsi_net.data.reader import SampleReader, names_in
from mtlsi_net.data.transforms import IMAGE, Array

SUFFIX = ".npy"


class MtanReader(NYUDLayoutReader):
    """Reader of ``{train,val}/{image,label,depth,normal}/<i>.npy``, i from 0 without gaps; ids are ``train/0``, ``val/0``.

    Images are floats in [0, 1], (H, W, 3), and become the nearest bytes: those of the published archives are multiples of
    1/255. Labels are classes from 0, -1 unlabelled; depth is (H, W, 1), 0 missing; normals are vectors, (H, W, 3), 0 missing.
    Where there is no folder ``label``, classes are read from ``label_<number of classes>``, as in a copy of Cityscapes.
    """

    how_to_get = (
        "files are numbered 0, 1, 2, ... without gaps in train/ and val/, one folder for each of image, label, depth and "
        "normal: unpack the archive again, see docs/protocol/mtan.md"
    )
    standard: Mapping[str, tuple[str, str]] = {
        IMAGE: ("image", SUFFIX),
        "semseg": ("label", SUFFIX),
        "depth": ("depth", SUFFIX),
        "normals": ("normal", SUFFIX),
    }

    def __init__(
        self,
        root: Path,
        specs: Mapping[str, TargetSpec],
        *,
        allow_missing: bool = False,
        files: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(root, specs, allow_missing=allow_missing, files=files)
        if "semseg" in specs and "semseg" not in (files or {}):
            numbered = f"label_{specs['semseg'].num_classes}"
            if not (root / "train" / "label").is_dir() and (root / "train" / numbered).is_dir():
                self.layout["semseg"] = numbered, SUFFIX

    def list_path(self, split: str) -> Path:
        """Return the folder of a split, whose files' names are the list."""
        return self.root / split

    def ids(self, split: str) -> list[str]:
        """Return ``<split>/0`` to the last number of any file; a UserError if there is none.

        Files that are missing before it, of an image or of a label, are found like those of any other data set.
        """
        folder = self.list_path(split)
        if not folder.is_dir():
            what = f"{folder} is missing" if self.root.is_dir() else f"data folder {self.root} does not exist"
            raise UserError(f"{what}; {self.how_to_get}")
        stems = {
            Path(name).stem
            for part in (IMAGE, *self.specs)
            for name in names_in(folder / self.layout[part][0])
            if name.endswith(self.layout[part][1])
        }
        numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
        if not numbers:
            raise UserError(
                f"{folder / self.layout[IMAGE][0]} holds no files 0{SUFFIX}, 1{SUFFIX}, ...; {self.how_to_get}"
            )
        return [f"{split}/{number}" for number in range(max(numbers) + 1)]

    def files(self, name: str, sample_id: str) -> list[Path]:
        """Return the file of ``image`` or of a task."""
        split, _, number = sample_id.partition("/")
        folder, suffix = self.layout[name]
        return [self.root / split / folder / f"{number}{suffix}"]

    def encoding(self, name: str) -> Encoding:  # noqa: ARG002 - base's signature
        """Return how label files store values; the axes of the normals are not documented."""
        return Encoding(zero_based=True, fixed=True, known_axes=False)

    def read_image(self, sample_id: str) -> Array:
        """Return the image, (H, W, 3) uint8; a UserError if it cannot be read or holds no floats in [0, 1]."""
        (path,) = self.files(IMAGE, sample_id)
        return self.decoded.get(IMAGE, [path], lambda: read_float_image(path))

    def image_size(self, sample_id: str) -> tuple[int, int]:
        """Return the image's height and width from its file's header."""
        (path,) = self.files(IMAGE, sample_id)
        try:
            height, width = np.load(path, mmap_mode="r", allow_pickle=False).shape[:2]
        except Exception:  # of a damaged file: reading it says what is wrong
            height, width = self.read_image(sample_id).shape[:2]
        return int(height), int(width)


def read_float_image(path: Path) -> NDArray[np.uint8]:
    """Return an image stored as floats in [0, 1] or as bytes, (H, W, 3), as the nearest bytes.

    Raises:
        UserError: the file cannot be read, has another shape, or holds other values.
    """
    values = read_array(path, ("image",), dimensions=3)
    if values.ndim != 3 or values.shape[2] != 3 or not (values.dtype.kind == "f" or values.dtype == np.uint8):
        raise UserError(
            f"{path}: expected an image of floats in [0, 1], shape (H, W, 3), found {values.dtype} of shape {values.shape}"
        )
    if values.dtype == np.uint8:
        return values
    if not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):  # false for NaN
        raise UserError(
            f"{path}: image values from {values.min():g} to {values.max():g}; store floats in [0, 1], not normalised"
        )
    return (values * 255).round().astype(np.uint8)


class MtanDataModule(NYUDLayoutDataModule):
    """Data in MTAN's layout, all images of ``size``, with that community's augmentation."""

    reader_type = MtanReader
    known_axes = False
    augmentation = "MtanTrainPipeline"

    def setup(self, stage: str | None = None) -> None:
        """Build the datasets as ``MultiTaskDataModule``; a UserError if an image has another size than ``size``."""
        if self.datasets:
            return
        super().setup(stage)
        for dataset in (self.datasets["train_plain"], self.datasets["val"]):
            self._check_sizes(dataset.reader, dataset.ids)

    def score_list(self, split: str) -> None:
        """Score a list as ``MultiTaskDataModule``; a UserError if an image has another size than ``size``."""
        super().score_list(split)
        self._check_sizes(self.datasets["val"].reader, self.datasets["val"].ids)

    def _check_sizes(self, reader: SampleReader, ids: Sequence[str]) -> None:
        if self.scale != 1.0:
            raise UserError(
                f"data.scale={self.scale}: all images of this data set keep their size; leave data.scale out"
            )
        with ThreadPoolExecutor(HEADERS) as pool:
            sizes = list(pool.map(reader.image_size, ids))
        wrong = [sample_id for sample_id, size in zip(ids, sizes, strict=True) if size != self.size]
        if wrong:
            height, width = sizes[ids.index(wrong[0])]
            names = reader.describe([reader.files(IMAGE, sample_id)[0] for sample_id in wrong])
            raise UserError(
                f"{self.root}: {len(wrong)} of {len(ids)} images are not {self.size[0]}x{self.size[1]}, e.g. {height}x{width} "
                f"({names}); published numbers use {self.size[0]}x{self.size[1]}, for another copy set "
                f"data.size=[{height},{width}]"
            )


class NYUv2MtanDataModule(MtanDataModule):
    """NYUv2 as MTAN prepared it: 795 training and 654 test images of 288x384, 13 classes, depth in metres, normals."""

    official = "nyuv2_mtan"
    terms = "NYUv2 in MTAN's preparation: no licence stated by its authors, in common use for research"


class CityscapesMtanDataModule(MtanDataModule):
    """Cityscapes as MTAN prepared it: 2,975 training and 500 test images of 128x256, 7 classes, disparity."""

    official = "cityscapes_mtan"
    terms = "Cityscapes in MTAN's preparation: Cityscapes' licence, non-commercial research"
