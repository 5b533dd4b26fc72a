"""Mappings of NYUDv2's 894 labels to the class lists in use."""

import re
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import MOST_CLASSES
from mtlsi_net.data.arrays import SUFFIXES, read_array

LABELS = 894
"""Names in the official file."""

FROM_40_TO_13 = (
    *(12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5),
    *(7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7),
)
"""Of each of the 40 classes, its number from 1 among ``nyu13``, those of C. Couprie et al. (ICLR 2013), as class13Mapping.mat."""

ClassMap = NDArray[np.uint16]
"""(895,): label, 0 unlabelled -> class from 1, 0 unlabelled."""


def official_map(classes: int) -> ClassMap:
    """Return the published mapping to 40 or to 13 classes, or all 894 labels as they are."""
    everything = np.arange(LABELS + 1, dtype=np.uint16)
    if classes == LABELS:
        return everything
    text = resources.files("mtlsi_net.data_tools").joinpath("nyud40.txt").read_text()
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    to_40 = _with_unlabelled([int(number) for number in " ".join(rows).split()])
    return to_40 if classes == len(FROM_40_TO_13) else _with_unlabelled(FROM_40_TO_13)[to_40]


def read_map(path: Path) -> ClassMap:
    """Return a user's mapping: 894 whole numbers in a text, or an array called ``mapClass`` in a ``.mat`` or alone in a file.

    They are the classes, from 1, of the labels 1 to 894; 0 is unlabelled. Lines of a text that start with # are comments.

    Raises:
        UserError: the file cannot be read, or holds anything else.
    """
    setting = f"source.class_map={path}"
    if path.suffix in SUFFIXES:
        values = read_array(path, ("mapClass",)).ravel()
    else:
        try:
            lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if not line.startswith("#")]
            values = np.array([float(word) for word in re.split(r"[\s,;]+", "\n".join(lines).strip())])
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise UserError(f"{setting} cannot be read ({error}); give a text of {LABELS} whole numbers") from None
    whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and np.array_equal(values, np.round(values)))
    if values.shape != (LABELS,) or not whole:
        raise UserError(
            f"{setting} holds {values.size} numbers{'' if whole else ', not all of them whole'}; give the class of each of "
            f"the {LABELS} labels, from 1, and 0 for unlabelled"
        )
    if values.min() < 0 or not 0 < values.max() <= MOST_CLASSES:
        raise UserError(
            f"{setting} holds classes from {values.min():g} to {values.max():g}; they are 0 (unlabelled) to at most "
            f"{MOST_CLASSES}"
        )
    return _with_unlabelled(values.astype(np.uint16).tolist())


def _with_unlabelled(classes: list[int] | tuple[int, ...]) -> ClassMap:
    return np.array([0, *classes], np.uint16)
