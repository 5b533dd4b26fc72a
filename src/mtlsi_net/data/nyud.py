"""NYUDv2, and any data set in its on-disk layout (protocol page, section 1.2)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtlsi_net.data.base import MultiTaskDataModule, SampleReader
from mtlsi_net.data.readers import read_image, read_target
from mtlsi_net.data.transforms import IMAGE, Sample
from mtlsi_net.specs import TargetSpec
from mtlsi_net.utils.errors import UserError, nearest_names

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
MISSING_SHOWN = 5


class NYUDLayoutReader(SampleReader):
    """Reads ``images/<id>.png``, one label file for each task, and ``gt_sets/{train,val}.txt``."""

    how_to_get = "point data.root to a folder in the NYUDv2 layout (images/, gt_sets/, one folder for each task)"

    def __init__(self, root: Path, specs: Mapping[str, TargetSpec]) -> None:
        super().__init__(root, specs)
        for name in specs:
            if name not in FILES:
                raise UserError(f"task {name!r}: this data set has no labels for it; {nearest_names(name, FILES)}")

    def ids(self, split: str) -> list[str]:
        """Return the ids listed in ``gt_sets/<split>.txt``."""
        path = self.root / "gt_sets" / f"{split}.txt"
        if not path.is_file():
            what = f"{path} is missing" if self.root.is_dir() else f"data folder {self.root} does not exist"
            raise UserError(f"{what}; {self.how_to_get}")
        ids = path.read_text().split()
        if not ids:
            raise UserError(f"{path} lists no images; {self.how_to_get}")
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})[:MISSING_SHOWN]
            raise UserError(f"{path} lists some ids twice ({', '.join(twice)}); remove the repetitions")
        return ids

    def path(self, name: str, sample_id: str) -> Path:
        """Return the file of ``image`` or of a task."""
        folder, suffix = ("images", ".png") if name == IMAGE else FILES[name]
        return self.root / folder / f"{sample_id}{suffix}"

    def check_files(self, ids: Sequence[str]) -> None:
        """Raise a UserError naming missing files."""
        missing = [path for name in (IMAGE, *self.specs) for i in ids if not (path := self.path(name, i)).is_file()]
        if missing:
            names = ", ".join(str(path.relative_to(self.root)) for path in missing[:MISSING_SHOWN])
            more = f" and {len(missing) - MISSING_SHOWN} more" if len(missing) > MISSING_SHOWN else ""
            raise UserError(
                f"{self.root}: missing {names}{more}; {self.how_to_get}, or switch a task off (~tasks.<name>)"
            )

    def check_size(self, path: Path, size: tuple[int, int]) -> None:
        """Raise a UserError for an image size that marks another copy of the data set; any size is fine here."""

    def read(self, sample_id: str) -> Sample:
        """Return the decoded image and label maps, all of one size."""
        image_path = self.path(IMAGE, sample_id)
        sample = {IMAGE: read_image(image_path)}
        size = sample[IMAGE].shape[:2]
        self.check_size(image_path, (size[0], size[1]))
        for name, spec in self.specs.items():
            path = self.path(name, sample_id)
            sample[name] = read_target(path, spec)
            if sample[name].shape[:2] != size:
                have = "x".join(map(str, sample[name].shape[:2]))
                raise UserError(
                    f"{path}: label of {have} pixels for an image of {size[0]}x{size[1]}; "
                    "labels are never resized silently, store them at the image's size"
                )
        return sample


class NYUDReader(NYUDLayoutReader):
    """NYUDv2 in the 425x560 copy that published numbers since 2021 use."""

    how_to_get = (
        "get NYUDv2.tar.gz, the 425x560 copy that InvPT's data section links to, unpack it, "
        "and set data.root to the folder that holds images/ and gt_sets/"
    )

    def check_size(self, path: Path, size: tuple[int, int]) -> None:
        """Refuse the 480x640 copy: its labels differ, and numbers on it cannot be compared."""
        if size == WRONG_COPY:
            raise UserError(
                f"{path}: this is the 480x640 copy of NYUDv2 (NYUD_MT), not comparable with published numbers; "
                f"{self.how_to_get}"
            )


class NYUDDataModule(MultiTaskDataModule):
    """NYUDv2: 795 training and 654 test images (called ``val``)."""

    dev_list = "nyud_dev.txt"

    def make_reader(self, specs: Mapping[str, TargetSpec]) -> NYUDLayoutReader:
        """Return a reader that accepts the comparable copy only."""
        return NYUDReader(self.root, specs)
