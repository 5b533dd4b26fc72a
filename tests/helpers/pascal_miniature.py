"""A tiny data set in PASCAL-Context's true layout, every kind of label among its images.

The images, by id: see ``CASES``. All maps are 40x56 except the tall image's (56x40), as VOC mixes orientations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import io

SIZE = (40, 56)
PERSON, CAT = 15, 8
WALL, TREE, TVMONITOR, UNKNOWN = 440, 420, 427, 431
"""Context classes; normals are kept on the wall and the monitor only."""

Box = tuple[int, int, int, int]
"""Top, left, bottom, right."""


@dataclass(frozen=True)
class Thing:
    """One annotated object: its class, the box of its mask, and its parts' names and boxes."""

    class_index: int
    box: Box
    parts: Sequence[tuple[str, Box]] = ()


@dataclass(frozen=True)
class Case:
    """One image: its objects, where its semantic labels stand, its context classes (left, right half)."""

    things: Sequence[Thing] = ()
    semseg: str = "VOC12"
    halves: tuple[int, int] = (WALL, TREE)
    size: tuple[int, int] = field(default=SIZE)


BODY = (
    ("torso", (8, 20, 24, 36)),
    ("neck", (6, 24, 10, 32)),
    ("head", (2, 24, 8, 32)),
    ("leye", (4, 26, 5, 27)),
    ("luarm", (8, 16, 16, 20)),
    ("rhand", (16, 36, 20, 40)),
    ("ruleg", (24, 20, 30, 28)),
    ("lfoot", (34, 28, 38, 34)),
)

CASES: dict[str, Case] = {
    "2008_000001": Case([Thing(PERSON, (2, 16, 38, 40), BODY)]),
    # a second person, later in the file, covers part of the first; the cat's head is no person's
    "2008_000002": Case(
        [
            Thing(PERSON, (2, 16, 38, 40), BODY),
            Thing(CAT, (0, 0, 8, 8), [("head", (0, 0, 4, 4))]),
            Thing(PERSON, (8, 30, 30, 50), [("torso", (8, 30, 24, 46))]),
        ]
    ),
    "2008_000003": Case([Thing(PERSON, (10, 10, 30, 20))]),  # a person without parts
    "2008_000004": Case([Thing(CAT, (10, 10, 30, 20), [("head", (10, 10, 16, 20))])], semseg="pascal-context"),
    "2008_000005": Case([], halves=(TREE, UNKNOWN), semseg="pascal-context"),  # no object, no pixel with a normal
    "2008_000006": Case([Thing(PERSON, (0, 0, 0, 0), BODY)]),  # an empty mask: no person, in spite of its parts
    "2009_000001": Case(
        [
            Thing(PERSON, (0, 0, 0, 0), [("head", (0, 0, 4, 4))]),  # drawn, for the next person is visible
            Thing(PERSON, (10, 10, 30, 20), [("torso", (10, 10, 20, 20))]),
        ],
        halves=(TVMONITOR, UNKNOWN),
    ),
    "2009_000002": Case([Thing(PERSON, (2, 16, 38, 40), BODY)], size=(56, 40)),
}
TRAIN = 6
"""The first ids are the training images."""


def fill(size: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    """Return a mask that is 1 inside ``box``."""
    mask = np.zeros(size, np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = 1
    return mask


def write_pascal_miniature(root: Path, seed: int = 0) -> Path:
    """Write the images of ``CASES``; return ``root``."""
    rng = np.random.default_rng(seed)
    for folder in (
        *("JPEGImages", "ImageSets/Context", "semseg/VOC12", "semseg/pascal-context"),
        *("pascal-context/trainval", "human_parts", "normals_distill", "sal_distill"),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for sample_id, case in CASES.items():
        _write(root, sample_id, case, rng)
    ids = list(CASES)
    (root / "ImageSets/Context/train.txt").write_text("\n".join(ids[:TRAIN]) + "\n")
    (root / "ImageSets/Context/val.txt").write_text("\n".join(ids[TRAIN:]) + "\n")
    return root


def _write(root: Path, sample_id: str, case: Case, rng: np.random.Generator) -> None:
    size = case.size
    image = np.full((*size, 3), 90, np.uint8) + rng.integers(0, 40, (*size, 3)).astype(np.uint8)
    semseg = np.zeros(size, np.uint8)
    context = np.full(size, case.halves[0], np.uint16)
    context[:, size[1] // 2 :] = case.halves[1]
    for thing in case.things:
        mask = fill(size, thing.box) > 0
        semseg[mask] = thing.class_index
        image[mask] = (40 + 10 * thing.class_index, 200, 30)
    if case.semseg == "VOC12":  # VOC draws a border of void around objects
        padded = np.pad(semseg, 1, mode="edge")
        shifted = [
            padded[1 + dy : 1 + dy + size[0], 1 + dx : 1 + dx + size[1]] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
        ]
        semseg[np.any([other != semseg for other in shifted], axis=0)] = 255
    normals = np.empty((*size, 3), np.uint8)
    normals[:] = (127, 140, 254)
    saliency = np.full(size, 127, np.uint8)
    saliency[size[0] // 4 : size[0] // 2] = 128
    Image.fromarray(image).save(root / "JPEGImages" / f"{sample_id}.jpg")
    _palette_png(semseg, root / "semseg" / case.semseg / f"{sample_id}.png")
    Image.fromarray(normals).save(root / "normals_distill" / f"{sample_id}.png")
    Image.fromarray(saliency).save(root / "sal_distill" / f"{sample_id}.png")
    io.savemat(root / "pascal-context" / "trainval" / f"{sample_id}.mat", {"LabelMap": context}, do_compression=True)
    io.savemat(root / "human_parts" / f"{sample_id}.mat", {"anno": annotation(case, sample_id)}, do_compression=True)


def _palette_png(indices: NDArray[np.uint8], path: Path) -> None:
    """Save as VOC does: a palette picture, whose indices are the labels."""
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    picture.save(path)


def annotation(case: Case, name: str) -> dict[str, Any]:
    """Return a PASCAL-Part structure: struct arrays of objects and parts, empty matrices where there are none."""
    part_fields = [("part_name", object), ("mask", object)]
    object_fields = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
    objects = np.empty((1, len(case.things)), object_fields)
    for index, thing in enumerate(case.things):
        parts = np.empty((1, len(thing.parts)), part_fields)
        for number, (part, box) in enumerate(thing.parts):
            parts[0, number] = (part, fill(case.size, box))
        label = "person" if thing.class_index == PERSON else "cat"
        objects[0, index] = (label, thing.class_index, fill(case.size, thing.box), parts if thing.parts else [])
    return {"imname": name, "objects": objects if case.things else []}
