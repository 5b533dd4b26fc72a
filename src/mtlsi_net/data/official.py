"""Facts of the copies behind published numbers (docs/protocol)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

Size = tuple[int, int]


def shipped_ids(name: str) -> list[str]:
    """Return the ids of a list that comes with the package."""
    return resources.files("mtlsi_net.data").joinpath("splits", f"{name}.txt").read_text().split()


@dataclass(frozen=True)
class Copy:
    """One circulating copy: its name, the suffix of the files in some of its folders, and its images' size if known."""

    name: str
    suffixes: Mapping[str, str]
    size: Size | None = None


@dataclass(frozen=True)
class Official:
    """Facts of a data set in its protocol.

    Attributes:
        lists: the split lists shipped as ``<lists>_train.txt`` and ``<lists>_val.txt``.
        reference_list: name of the shipped list that scores with a reference are published on; empty: no task has one.
        copies: circulating copies, the one of the protocol first.
        size: (height, width) of every image; None if they differ.
        longest_side: pixels that no image exceeds.
        counts: split -> number of images, whose ids are ``<split>/0``, ``<split>/1``, ...; None: lists are shipped.
        complete: whether every pixel has a depth.
        farthest: upper bound of depths.
        unit: of depths; empty for disparities.
    """

    lists: str
    reference_list: str
    copies: Sequence[Copy]
    size: Size | None
    longest_side: int
    counts: Mapping[str, int] | None = None
    complete: bool = True
    farthest: float = 11.0
    unit: str = "m"

    def ids(self, split: str) -> list[str]:
        """Return the official ids of ``train`` or ``val``."""
        if self.counts is not None:
            return [f"{split}/{number}" for number in range(self.counts[split])]
        return shipped_ids(f"{self.lists}_{split}")

    def reference_ids(self) -> list[str]:
        """Return the ids that scores with a reference are published on."""
        return shipped_ids(self.reference_list) if self.reference_list else self.ids("val")

    def score_groups(self, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the ``core.types.SCORE_GROUPS`` in which each of the test ``ids`` counts.

        All ids of the published list make the main score, fewer a partial one, over all ids if none is published.
        """
        published, own = set(self.reference_ids()), set(ids)
        main = "" if published <= own else "partial"
        counted = (published & own) or own
        everything = ("all",) if published < set(self.ids("val")) <= own else ()
        return {sample_id: ((main,) if sample_id in counted else ()) + everything for sample_id in ids}


OFFICIAL = {
    "nyud": Official(
        lists="nyud",
        reference_list="nyud_val",
        copies=(
            Copy(
                "NYUDv2.tar.gz, 425x560, the one of InvPT, TaskPrompter, MLoRE, MTMamba and DeMT",
                {"images": ".png", "edge": ".png", "normals": ".png"},
                (425, 560),
            ),
            Copy(
                "NYUD_MT.tgz from Google Drive, 480x640, the one of MTI-Net and today's ATRC",
                {"images": ".jpg", "edge": ".npy", "normals": ".npy"},
                (480, 640),
            ),
            Copy("NYUD_MT.tgz from ETH, the one of ASTMT", {"images": ".jpg", "edge": ".png", "segmentation": ".mat"}),
        ),
        size=(425, 560),
        longest_side=560,
    ),
    "pascal": Official(
        lists="pascal",
        reference_list="pascal_test_new",
        copies=(
            Copy(
                "PASCALContext.tar.gz of the InvPT family, or PASCAL_MT.tgz, which holds the same",
                {
                    "JPEGImages": ".jpg",
                    "semseg/VOC12": ".png",
                    "semseg/pascal-context": ".png",
                    "human_parts": ".mat",
                    "normals_distill": ".png",
                    "sal_distill": ".png",
                },
            ),
        ),
        size=None,
        longest_side=500,
    ),
    "nyuv2_mtan": Official(
        lists="",
        reference_list="",
        copies=(
            Copy(
                "NYUv2 in MTAN's preparation, 288x384, the one of LibMTL, CAGrad, Nash-MTL and FAMO",
                dict.fromkeys(("train/image", "train/label", "train/depth", "train/normal"), ".npy"),
                (288, 384),
            ),
        ),
        size=(288, 384),
        longest_side=384,
        counts={"train": 795, "val": 654},
        complete=False,
    ),
    "cityscapes_mtan": Official(
        lists="",
        reference_list="",
        copies=(
            Copy(
                "Cityscapes in MTAN's preparation, 128x256, the one of LibMTL, CAGrad, Nash-MTL and FAMO",
                dict.fromkeys(("train/image", "train/label", "train/depth"), ".npy"),
                (128, 256),
            ),
            Copy(
                "Cityscapes in MTAN's preparation, 128x256, with classes in label_7",
                dict.fromkeys(("train/image", "train/label_7", "train/depth"), ".npy"),
                (128, 256),
            ),
            Copy(
                "Cityscapes in MTAN's preparation, 256x512", {"train/image": ".npy", "train/depth": ".npy"}, (256, 512)
            ),
        ),
        size=(128, 256),
        longest_side=256,
        counts={"train": 2975, "val": 500},
        complete=False,
        farthest=1.0,
        unit="",
    ),
}


def identify(official: Official, root: Path, sizes: Iterable[Size]) -> str:
    """Return which of the circulating copies is at ``root``, with images of ``sizes``, (height, width) each."""
    distinct = set(sizes)
    folders = {folder for copy in official.copies for folder in copy.suffixes}
    found = {folder: next((path.suffix for path in (root / folder).glob("?*.*")), None) for folder in folders}
    for copy in official.copies:
        if any(found[folder] != suffix for folder, suffix in copy.suffixes.items()):
            continue
        if copy.size is None or distinct <= {copy.size}:
            return copy.name
        names = ", ".join(f"{height}x{width}" for height, width in sorted(distinct)[:3])
        same = [f", the size of {other.name}" for other in official.copies if distinct == {other.size}]
        return f"like {copy.name}, but with images of {names}{''.join(same)}"
    standard = official.copies[0]
    lacking = [folder for folder in standard.suffixes if found[folder] is None]
    others = [folder for folder, suffix in standard.suffixes.items() if found[folder] not in (None, suffix)]
    words = [f"without {', '.join(lacking)}"] if lacking else []
    words += [f"with other files in {', '.join(others)}"] if others else []
    return f"like {standard.name}, but {' and '.join(words)}"
