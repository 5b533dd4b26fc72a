"""Computation of PASCAL-Context's label maps from ``.mat`` files (docs/protocol/pascal-context.md)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import io

from mtlsi_net.core.errors import UserError, nearest_names
from mtlsi_net.data.reader import wrong_size
from mtlsi_net.metrics.boundary.thinning import thin

LabelMap = NDArray[np.uint16]
Map = NDArray[np.uint8]

CONTEXT_CLASSES = 459
PERSON = 15

PARTS: dict[str, int] = {
    name: index
    for index, names in enumerate(
        (
            ("hair", "head", "lear", "rear", "lebrow", "rebrow", "leye", "reye", "mouth", "nose"),
            ("torso", "neck"),
            ("luarm", "ruarm"),
            ("llarm", "rlarm", "lhand", "rhand"),
            ("luleg", "ruleg"),
            ("llleg", "rlleg", "lfoot", "rfoot"),
        ),
        start=1,
    )
    for name in names
}
"""PASCAL-Part's name of a person's part -> class of ``parts7``."""

# fmt: off
NORMALS_CLASSES = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56, 59,
    61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124, 135,
    141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213, 215,
    216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269, 272,
    273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323, 329,
    330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403, 405,
    407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)
# fmt: on
"""The 170 context classes that NYUv2 has too: elsewhere the distilled normals are not to be trusted."""


def boundaries(label_map: LabelMap) -> Map:
    """Return 1 on boundaries of an (H, W) label map, else 0: where its Laplacian is not zero, thinned to lines."""
    laplacian = cv2.Laplacian(label_map, cv2.CV_64F, ksize=1)
    return thin(laplacian != 0).astype(np.uint8)


def has_normals(label_map: LabelMap) -> Map:
    """Return 1 where the (H, W) label map's class is one of NYUv2's, else 0."""
    return np.isin(label_map, NORMALS_CLASSES).astype(np.uint8)


def read_label_map(path: Path) -> LabelMap:
    """Return the 459-class label map, (H, W), 0 for unlabelled; a UserError if the file is missing or holds none."""
    label_map = load_mat(path, ("LabelMap",))[1]
    if label_map.ndim != 2 or label_map.dtype.kind not in "uif":
        raise UserError(
            f"{path}: LabelMap is {label_map.dtype} {label_map.shape}; expected a 2-D map of class numbers; "
            "replace the file from its source"
        )
    wrong = (label_map < 0) | (label_map > CONTEXT_CLASSES) | (label_map != np.floor(label_map))
    if wrong.any():
        raise UserError(
            f"{path}: LabelMap holds {label_map[wrong].flat[0]}, but classes range from 1 to {CONTEXT_CLASSES}; "
            "replace the file from its source"
        )
    return label_map.astype(np.uint16)


def read_parts(path: Path, size: tuple[int, int]) -> Map:
    """Return human parts, (H, W) of ``size``: 0 background, 1..6; all 0 without persons or their parts.

    Later objects, and later parts of one object, cover earlier ones. An image whose persons all have empty masks counts
    as one without persons.

    Raises:
        UserError: the file is missing, damaged, of another structure, names an unknown part, or masks differ in size.
    """
    anno = load_mat(path, ("anno",))[1]
    try:
        persons = [_person(record) for record in anno[0, 0][1].ravel() if int(record[1].item()) == PERSON]
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: 'anno' is not a PASCAL-Part structure ({error}); replace the file from its source"
        ) from None
    parts = np.zeros(size, np.uint8)
    visible = any(mask.any() for mask, _ in persons)
    for mask, pieces in persons:
        for name, piece in [("", mask), *pieces]:
            if piece.shape != size:
                raise wrong_size(path, piece.shape, size)
            if name and name not in PARTS:
                raise UserError(f"{path}: unknown part {name!r} of a person; {nearest_names(name, PARTS)}")
            if name and visible:
                parts[piece != 0] = PARTS[name]
    return parts


def _person(record: Any) -> tuple[Map, list[tuple[str, Map]]]:  # noqa: ANN401 - a record of scipy's
    """Return mask, and name and mask of every part: fields class, class_ind, mask, parts; part_name, mask."""
    return record[2], [(str(piece[0].item()), piece[1]) for piece in record[3].ravel()]


def load_mat(path: Path, keys: Sequence[str]) -> tuple[str, NDArray[Any]]:
    """Return the first of ``keys`` in a ``.mat`` file, and its value; a UserError if none is present."""
    try:
        with path.open("rb") as file:
            content = io.loadmat(file, variable_names=list(keys))
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except Exception as error:  # damaged files raise many kinds of errors in scipy and zlib
        raise UserError(f"{path}: cannot be read as .mat ({error}); replace the file from its source") from None
    key = next((key for key in keys if key in content), None)
    if key is None:
        raise UserError(f"{path}: contains no {' or '.join(map(repr, keys))}; replace the file from its source")
    return key, np.asarray(content[key])
