"""Reader and data module of PASCAL-Context with five tasks (docs/protocol/pascal-context.md)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.types import Reference, TargetSpec
from mtlsi_net.data.cache import LabelCache
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.encoding import Encoding
from mtlsi_net.data.files import NO_NORMAL, read_pixels, read_target
from mtlsi_net.data.pascal_labels import boundaries, has_normals, read_label_map, read_parts
from mtlsi_net.data.reader import SampleReader, wrong_size
from mtlsi_net.data.transforms import IMAGE, Array

SALIENT = 128
"""Least grey value of a salient pixel."""
VOC = Encoding(zero_based=True, fixed=True)


class PascalReader(SampleReader):
    """Reader of the layout of ``PASCALContext.tar.gz`` (and ``PASCAL_MT.tgz``, the same inside).

    Boundaries, the mask of classes with normals, and human parts are computed from ``.mat`` files and cached in ``cache``.
    """

    how_to_get = (
        "get PASCALContext.tar.gz, as InvPT uses it, by python -m mtlsi_net.download data=pascal, "
        "or set data.root to the folder that holds JPEGImages/ and ImageSets/"
    )
    tasks = ("semseg", "human_parts", "saliency", "normals", "boundary")

    def __init__(
        self,
        root: Path,
        specs: Mapping[str, TargetSpec],
        *,
        allow_missing: bool = False,
        cache: LabelCache | None = None,
    ) -> None:
        super().__init__(root, specs, allow_missing=allow_missing)
        self.cache = cache or LabelCache(None)

    def list_path(self, split: str) -> Path:
        """Return ``ImageSets/Context/<split>.txt``."""
        return self.root / "ImageSets" / "Context" / f"{split}.txt"

    def files(self, name: str, sample_id: str) -> list[Path]:
        """Return the files of ``image`` or of a task; semseg is VOC's label if there is one, else PASCAL-Context's."""
        label_map = self.root / "pascal-context" / "trainval" / f"{sample_id}.mat"
        if name == "semseg":
            voc, context = (self.root / "semseg" / kind / f"{sample_id}.png" for kind in ("VOC12", "pascal-context"))
            return [voc if voc.is_file() else context]
        return {
            IMAGE: [self.root / "JPEGImages" / f"{sample_id}.jpg"],
            "human_parts": [self.root / "human_parts" / f"{sample_id}.mat"],
            "saliency": [self.root / "sal_distill" / f"{sample_id}.png"],
            "normals": [self.root / "normals_distill" / f"{sample_id}.png", label_map],
            "boundary": [label_map],
        }[name]

    def read_label(self, name: str, sample_id: str, size: tuple[int, int]) -> Array:
        """Return one label map, uint8.

        semseg: 0 background, 1..20, 255 void. human_parts: 0..6. saliency and boundary: 0, 255. normals:
        ``127.5 (n + 1)``, and ``NO_NORMAL``, a nearly zero vector, where there is no normal.
        """
        files = self.files(name, sample_id)
        if name == "semseg":
            return read_target(files[0], self.specs[name], VOC)
        if name == "human_parts":
            return self.cache.get(name, files, lambda: read_parts(files[0], size), size)[..., None]
        if name == "saliency":
            return _binary(read_pixels(files[0], "share") >= SALIENT)
        if name == "boundary":
            return _binary(self.cache.get(name, files, lambda: boundaries(read_label_map(files[0]))))
        return self._normals(files, size)

    def read_reference(self, name: str, sample_id: str) -> Reference:
        """Return the label map: published boundary scores compare with its regions, not with the training label."""
        return Reference(read_label_map(self.files(name, sample_id)[0])[None], "labels")

    def _normals(self, files: list[Path], size: tuple[int, int]) -> Array:
        normals = read_target(files[0], self.specs["normals"])
        mask = self.cache.get("has_normals", files[1:], lambda: has_normals(read_label_map(files[1])))
        for file, shape in zip(files, (normals.shape, mask.shape), strict=True):
            if shape[:2] != size:
                raise wrong_size(file, shape, size)
        return np.where(mask[..., None], normals, NO_NORMAL)


def _binary(values: NDArray[np.uint8] | NDArray[np.bool_]) -> Array:
    """Return a map of 0 and 1, (H, W), as it is stored."""
    return values[..., None] * np.uint8(255)


class PascalDataModule(MultiTaskDataModule):
    """PASCAL-Context: 4998 training and 5105 validation images.

    Images without persons are kept even when only human parts are trained; they contribute nothing to it.
    """

    official = "pascal"
    terms = "PASCAL VOC: photographs under Flickr's terms of use, annotations for research"

    def make_reader(self, specs: Mapping[str, TargetSpec]) -> PascalReader:
        """Return the reader; its computed labels are kept in ``cache_dir``."""
        return PascalReader(self.root, specs, allow_missing=self.allow_missing, cache=LabelCache(self.cache_dir))
