"""Class names of the standard label sets, and their colours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.specs import IGNORE
from mtlsi_net.utils.errors import InputError, nearest_names

BACKGROUND = "background"

CLASS_SETS: dict[str, tuple[str, ...]] = {
    # NYUDv2's 40 classes, spelt as in the data set's own class mapping.
    "nyud40": (
        *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
        *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat"),
        *("clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box"),
        *("whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag"),
        *("otherstructure", "otherfurniture", "otherprop"),
    ),
    # PASCAL VOC's 20 classes and background.
    "voc21": (
        *(BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    # PASCAL-Part's 24 parts of a person, merged as in the multi-task literature.
    "parts7": (BACKGROUND, "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg"),
}


NYUD40_COLORS = (
    *(
        (174, 199, 232),
        (152, 223, 138),
        (31, 119, 180),
        (255, 187, 120),
        (188, 189, 34),
        (140, 86, 75),
        (255, 152, 150),
    ),
    *((214, 39, 40), (197, 176, 213), (148, 103, 189), (196, 156, 148), (23, 190, 207), (178, 76, 76), (247, 182, 210)),
    *((66, 188, 102), (219, 219, 141), (140, 57, 197), (202, 185, 52), (51, 176, 203), (200, 54, 131), (92, 193, 61)),
    *((78, 71, 183), (172, 114, 82), (255, 127, 14), (91, 163, 138), (153, 98, 156), (140, 153, 101), (158, 218, 229)),
    *(
        (100, 125, 154),
        (178, 127, 135),
        (120, 185, 128),
        (146, 111, 194),
        (44, 160, 44),
        (112, 128, 144),
        (96, 207, 209),
    ),
    *((227, 119, 194), (213, 92, 176), (94, 106, 211), (82, 84, 163), (100, 85, 144)),
)
"""Of NYUDv2's 40 classes, in their order, as benchmarks of indoor scenes (ScanNet) draw them."""


def class_names(classes: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of a standard set (``nyud40``, ``voc21``, ``parts7``), or a list of one's own, checked.

    Raises:
        InputError: unknown set, repeated name, or a number of names outside 2..254.
    """
    if isinstance(classes, str):
        if classes not in CLASS_SETS:
            raise InputError(
                f"classes={classes!r} is no known class set; {nearest_names(classes, CLASS_SETS)}, or give a list of class names"
            )
        return CLASS_SETS[classes]
    names = tuple(classes)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"classes: {', '.join(repeated)} is there twice; names must differ")
    if not 2 <= len(names) < IGNORE:
        raise InputError(f"classes: {len(names)} names given; label maps hold 2 to {IGNORE - 1} classes")
    return names


def class_indices(selected: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the indices of ``selected`` in ``names``.

    Raises:
        InputError: nothing selected, a name selected twice, or a name that is not in the list.
    """
    if not selected or len(set(selected)) != len(selected):
        raise InputError(f"scored_classes={list(selected)} must name at least one class, and each only once")
    for name in selected:
        if name not in names:
            raise InputError(f"scored_classes: {name!r} is not known; {nearest_names(name, names)}")
    return [list(names).index(name) for name in selected]


def class_palette(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a class set's colours, (K, 3): NYUDv2's 40 have their own, as ScanNet shows them; all others PASCAL VOC's.

    VOC's first colour, black, is kept for a class called background.

    VOC's rule spreads the bits of the number n: bits 0, 1, 2 to the highest bit of red, green, blue, the next three to
    the second highest, and so on.
    """
    if tuple(names) == CLASS_SETS["nyud40"]:
        return np.array(NYUD40_COLORS, dtype=np.uint8)
    numbers = np.arange(len(names)) + (names[0] != BACKGROUND)
    palette = np.zeros((len(names), 3), dtype=np.uint8)
    for channel in range(3):
        for place in range(3):
            bit = numbers >> (3 * place + channel) & 1
            palette[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return palette
