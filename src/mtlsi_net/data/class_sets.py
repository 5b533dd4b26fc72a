"""Class names and colours of the standard label sets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import InputError, nearest_names
from mtlsi_net.core.types import IGNORE, MOST_CLASSES

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
    # The 13 coarse classes of NYUDv2, in SceneNet's order, which the task-balancing literature uses.
    "nyu13": (
        *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects"),
        *("picture", "sofa", "table", "tv", "wall", "window"),
    ),
    # Cityscapes' categories without void, in its own order.
    "cityscapes7": ("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    # PASCAL VOC's 20 classes and background.
    "voc21": (
        *(BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    # PASCAL-Part's 24 parts of a person, merged as in the multi-task literature.
    "parts7": (BACKGROUND, "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg"),
}


NYUD40_COLORS = (
    "aec7e8 98df8a 1f77b4 ffbb78 bcbd22 8c564b ff9896 d62728 c5b0d5 9467bd "
    "c49c94 17becf b24c4c f7b6d2 42bc66 dbdb8d 8c39c5 cab934 33b0cb c83683 "
    "5cc13d 4e47b7 ac7252 ff7f0e 5ba38a 99629c 8c9965 9edae5 647d9a b27f87 "
    "78b980 926fc2 2ca02c 708090 60cfd1 e377c2 d55cb0 5e6ad3 5254a3 645590"
)
"""Of NYUDv2's 40 classes, RGB in their order, as benchmarks of indoor scenes (ScanNet) draw them."""


def class_names(classes: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of a standard set, a key of ``CLASS_SETS``, or the given names, checked.

    Raises:
        InputError: unknown set, repeated name, or a number of names outside 2..1000.
    """
    if isinstance(classes, str):
        if classes not in CLASS_SETS:
            raise InputError(
                f"classes={classes!r} is not a known class set; "
                f"{nearest_names(classes, CLASS_SETS)}, or give a list of class names"
            )
        return CLASS_SETS[classes]
    names = tuple(classes)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"classes: {', '.join(repeated)} given more than once; names must differ")
    if not 2 <= len(names) <= MOST_CLASSES:
        raise InputError(f"classes: {len(names)} names given; label maps hold 2 to {MOST_CLASSES} classes")
    return names


def class_indices(selected: Sequence[str], names: Sequence[str], setting: str = "scored_classes") -> list[int]:
    """Return the indices of ``selected``, the value of ``setting``, in ``names``.

    Raises:
        InputError: nothing selected, a name selected twice, or a name that is not in the list.
    """
    if not selected or len(set(selected)) != len(selected):
        raise InputError(f"{setting}={list(selected)} must contain at least one class, each only once")
    for name in selected:
        if name not in names:
            raise InputError(f"{setting}: {name!r} is not known; {nearest_names(name, names)}")
    return [list(names).index(name) for name in selected]


def class_palette(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a class set's colours, (K, 3): NYUDv2's 40 have their own, as ScanNet shows them; all others PASCAL VOC's.

    VOC's first colour, black, is kept for a class called background. Its rule spreads the bits of a class's number: bits
    0, 1, 2 to the highest bit of red, green, blue, the next three to the second highest, and so on. The colour of number
    255 is that of unlabelled pixels; no class has it.
    """
    if tuple(names) == CLASS_SETS["nyud40"]:
        return np.array(list(bytes.fromhex(NYUD40_COLORS)), np.uint8).reshape(-1, 3)
    numbers = np.arange(len(names)) + (names[0] != BACKGROUND)
    numbers += numbers >= IGNORE
    palette = np.zeros((len(names), 3), dtype=np.uint8)
    for channel in range(3):
        for place in range(8):
            bit = numbers >> (3 * place + channel) & 1
            palette[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return palette
