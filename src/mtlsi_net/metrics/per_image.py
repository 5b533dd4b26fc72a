"""The file of what every image contributed to the pooled scores, ``per_image.npz``; read without torch."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.io import atomic_file
from mtlsi_net.metrics.pooling import POOLINGS, Sums, Values

ImageRecord = dict[str, Sums]
"""``task/metric`` -> one image's sums."""


@dataclass(frozen=True)
class ImageSums:
    """Sums of every image, from which the pooled scores of any choice of images follow.

    Attributes:
        ids: of the images, N.
        sums: ``task/metric`` -> (N, ...).
        pooling: ``task/metric`` -> name of its formula, in ``POOLINGS``.
    """

    ids: list[str]
    sums: dict[str, Sums]
    pooling: dict[str, str]

    def scores(self, weights: Values) -> dict[str, Values]:
        """Return ``task/metric`` -> (R,) scores of R choices of images, (R, N) how often each image is in it."""
        return {key: self._score(key, weights) for key in self.sums}

    def _score(self, key: str, weights: Values) -> Values:
        own = self.sums[key]
        pooled = weights @ own.reshape(len(own), -1).astype(np.float64)
        return POOLINGS[self.pooling[key]](pooled.reshape(-1, *own.shape[1:]))

    def image_scores(self) -> dict[str, Values]:
        """Return ``task/metric`` -> (N,) scores of the single images, NaN where one has no label."""
        return {key: POOLINGS[self.pooling[key]](own) for key, own in self.sums.items()}


def join(records: Mapping[str, ImageRecord], pooling: Mapping[str, str]) -> ImageSums:
    """Return the records of id -> sums as one, sorted by id; an image without a metric's sums adds nothing to it."""
    ids = sorted(records)
    shapes = {key: value for record in records.values() for key, value in record.items()}
    sums = {key: np.stack([records[i].get(key, np.zeros_like(like)) for i in ids]) for key, like in shapes.items()}
    return ImageSums(ids, sums, {key: pooling[key] for key in sums})


def write_image_sums(path: Path, found: ImageSums) -> None:
    """Write ``per_image.npz``: ``ids``, ``pooling`` (JSON) and one array for each ``task/metric``; never half a file.

    Whole numbers are stored in 32 bits: no image has 2^31 pixels.
    """
    arrays: dict[str, Any] = {"ids": np.array(found.ids), "pooling": np.array(json.dumps(found.pooling))}
    arrays |= {key: own.astype(np.int32) if own.dtype.kind == "i" else own for key, own in found.sums.items()}
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)


def read_image_sums(path: Path) -> ImageSums:
    """Return what ``write_image_sums`` wrote.

    Raises:
        InputError: the file is damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        ids, pooling = [str(i) for i in arrays.pop("ids")], dict(json.loads(str(arrays.pop("pooling"))))
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read ({reason}); evaluate the run again") from None
    bad = [key for key, own in arrays.items() if own.shape[:1] != (len(ids),) or str(pooling.get(key)) not in POOLINGS]
    if bad or not ids or len(set(ids)) != len(ids):
        raise InputError(f"{path}: {', '.join(bad) or 'ids'} do not fit together; evaluate the run again")
    return ImageSums(ids, arrays, pooling)
