"""Readers and data modules of NYUDv2 and of data sets in its on-disk layout (docs/protocol/nyudv2.md)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.files import read_target
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.transforms import IMAGE, Array

FILES = {
    "semseg": ("segmentation", ".png"),
    "depth": ("depth", ".npy"),
    "normals": ("normals", ".png"),
    "boundary": ("edge", ".png"),
    "saliency": ("saliency", ".png"),
    "human_parts": ("human_parts", ".png"),
}
"""Task -> (folder, suffix) of its label files; the last two are our extension for data of one's own."""

WRONG_COPY = (480, 640)


class NYUDLayoutReader(SampleReader):
    """Reader of ``images/<id>.png``, one label file for each task, and ``gt_sets/{train,val}.txt``.

    ``files``: task, or ``image``, -> [folder, suffix], where they differ from the layout or add to it; a UserError if one
    has another form.
    """

    how_to_get = "point data.root to a folder in the NYUDv2 layout (images/, gt_sets/, one folder for each task)"
    standard: Mapping[str, tuple[str, str]] = {IMAGE: ("images", ".png"), **FILES}
    """``image`` and task -> (folder, suffix) of its files."""

    def __init__(
        self,
        root: Path,
        specs: Mapping[str, TargetSpec],
        *,
        allow_missing: bool = False,
        files: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.layout = dict(self.standard)
        for name, place in (files or {}).items():
            if len(place) != 2 or not str(place[1]).startswith("."):
                raise UserError(f"data.files.{name}={place}: give [folder, suffix], e.g. [{name}, .png]")
            self.layout[name] = (place[0], place[1])
        self.tasks = tuple(name for name in self.layout if name != IMAGE)
        super().__init__(root, specs, allow_missing=allow_missing)

    def list_path(self, split: str) -> Path:
        """Return ``gt_sets/<split>.txt``."""
        return self.root / "gt_sets" / f"{split}.txt"

    def files(self, name: str, sample_id: str) -> list[Path]:
        """Return the file of ``image`` or of a task."""
        folder, suffix = self.layout[name]
        return [self.root / folder / f"{sample_id}{suffix}"]

    def read_label(self, name: str, sample_id: str, size: tuple[int, int]) -> Array:  # noqa: ARG002 - base's signature
        """Return the label file's map."""
        return read_target(self.files(name, sample_id)[0], self.specs[name], self.encoding(name))


class NYUDReader(NYUDLayoutReader):
    """NYUDv2 in the 425x560 copy that published numbers since 2021 use."""

    how_to_get = (
        "get NYUDv2.tar.gz, the 425x560 copy that InvPT uses, by python -m mtlsi_net.download data=nyud, "
        "or set data.root to the folder that holds images/ and gt_sets/"
    )

    def read_image(self, sample_id: str) -> Array:
        """Return the image, as ``SampleReader``; refuse the 480x640 copy, whose labels differ."""
        image = super().read_image(sample_id)
        if image.shape[:2] == WRONG_COPY:
            raise UserError(
                f"{self.files(IMAGE, sample_id)[0]}: this is the 480x640 copy of NYUDv2 (NYUD_MT), not comparable with "
                f"published numbers; {self.how_to_get}"
            )
        return image


class NYUDLayoutDataModule(MultiTaskDataModule):
    """Data in the NYUDv2 layout."""

    reader_type: type[NYUDLayoutReader] = NYUDLayoutReader

    def make_reader(self, specs: Mapping[str, TargetSpec]) -> NYUDLayoutReader:
        """Return a reader of the folders that ``files`` names and of the layout's own."""
        return self.reader_type(self.root, specs, allow_missing=self.allow_missing, files=self.files)


class NYUDDataModule(NYUDLayoutDataModule):
    """NYUDv2: 795 training and 654 test images (called ``val``)."""

    official = "nyud"
    terms = "NYUDv2: no licence stated by its authors, in common use for research"
    dev_list = "nyud_dev"
    reader_type = NYUDReader
