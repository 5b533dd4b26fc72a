"""Per-image sums behind the pooled scores, the formulas that turn sums into scores, and the file that stores them.

Sums add up, so any selection of images (all, a resample, a single one) can be scored from its sum.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.io import atomic_file
from mtlsi_net.metrics.boundary.scores import boundary_scores, f_measure, precision_recall

Sums = NDArray[np.integer | np.floating]
Values = NDArray[np.float64]

BETA_SQUARED = 0.3
"""Of the saliency F-measure (docs/protocol/index.md)."""


def ratio(sums: Sums) -> Values:
    """Return a / b of (..., 2) sums a, b; NaN without any b."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan), np.float64)


def root_ratio(sums: Sums) -> Values:
    """Return sqrt(a / b) of (..., 2) sums a, b; NaN without any b."""
    return np.asarray(np.sqrt(ratio(sums)), np.float64)


def mean_ratio(sums: Sums) -> Values:
    """Return the mean over K of a / b of (..., K, 2) sums, b = 0 counting as 0; NaN if all are."""
    each = sums[..., 0] / np.maximum(sums[..., 1], 1)
    return np.where((sums[..., 1] > 0).any(-1), each.mean(-1), np.nan)


def saliency_f(sums: Sums) -> Values:
    """Return F = 1.3 P R / (0.3 P + R) at each threshold, (..., L - 1), of (..., 2, L) negatives and positives by level.

    0 where P or R has no value or both are 0.
    """
    reached = np.flip(np.flip(sums, -1).cumsum(-1), -1)[..., 1:].astype(np.float64)
    hits, predicted, labelled = reached[..., 1, :], reached.sum(-2), sums[..., 1, :].sum(-1)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hits / predicted, hits / labelled
        f = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    return np.nan_to_num(f)


def max_f(sums: Sums) -> Values:
    """Return the best ``saliency_f``; NaN without any pixel."""
    return np.where(sums.sum((-1, -2)) > 0, saliency_f(sums).max(-1), np.nan)


def best_f(sums: Sums) -> Values:
    """Return the best F over thresholds of (..., T, 4) boundary counts, SEISM's rules; NaN without any pixel."""
    f = f_measure(*precision_recall(np.asarray(sums))).max(-1)
    return np.where(sums.sum((-1, -2)) > 0, f, np.nan)


def best_f_between(sums: Sums) -> Values:
    """Return the best F as ``best_f``, but by BSDS's rules: values between thresholds are included in the search."""
    flat = sums.reshape(-1, *sums.shape[-2:])
    positions = np.arange(sums.shape[-2], dtype=np.float64)  # dummy values: the best threshold itself is not returned
    f = [boundary_scores(one, one[0], positions, True)["odsF"] if one.any() else np.nan for one in flat]
    return np.asarray(f, np.float64).reshape(sums.shape[:-2])


POOLINGS: dict[str, Callable[[Sums], Values]] = {
    function.__name__: function for function in (ratio, root_ratio, mean_ratio, max_f, best_f, best_f_between)
}
"""Name, as run folders keep it -> formula."""

ImageRecord = dict[str, Sums]
"""``task/metric`` -> one image's sums."""


@dataclass(frozen=True)
class ImageSums:
    """Sums of every image, from which the pooled scores of any selection of images are computed.

    Attributes:
        ids: of the images, N.
        sums: ``task/metric`` -> (N, ...).
        pooling: ``task/metric`` -> name of its formula, in ``POOLINGS``.
    """

    ids: list[str]
    sums: dict[str, Sums]
    pooling: dict[str, str]

    def scores(self, weights: Values) -> dict[str, Values]:
        """Return ``task/metric`` -> (R,) scores of R selections; ``weights`` (R, N) is how often each image is in them."""
        return {key: self._score(key, weights) for key in self.sums}

    def _score(self, key: str, weights: Values) -> Values:
        sums = self.sums[key]
        pooled = weights @ sums.reshape(len(sums), -1).astype(np.float64)
        return POOLINGS[self.pooling[key]](pooled.reshape(-1, *sums.shape[1:]))

    def image_scores(self) -> dict[str, Values]:
        """Return ``task/metric`` -> (N,) scores of the single images, NaN where one has no label."""
        return {key: POOLINGS[self.pooling[key]](sums) for key, sums in self.sums.items()}


def join(records: Mapping[str, ImageRecord], pooling: Mapping[str, str]) -> ImageSums:
    """Return records (id -> sums) as one, sorted by id; an image without sums of a metric counts as zeros there."""
    ids = sorted(records)
    shapes = {key: value for record in records.values() for key, value in record.items()}
    sums = {key: np.stack([records[i].get(key, np.zeros_like(like)) for i in ids]) for key, like in shapes.items()}
    return ImageSums(ids, sums, {key: pooling[key] for key in sums})


def write_image_sums(path: Path, record: ImageSums) -> None:
    """Write ``per_image.npz``: ``ids``, ``pooling`` (JSON) and one array for each ``task/metric``; written atomically.

    Whole numbers are stored in 32 bits: no image has 2^31 pixels.
    """
    arrays: dict[str, Any] = {"ids": np.array(record.ids), "pooling": np.array(json.dumps(record.pooling))}
    arrays |= {key: sums.astype(np.int32) if sums.dtype.kind == "i" else sums for key, sums in record.sums.items()}
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)


def read_image_sums(path: Path) -> ImageSums:
    """Return what ``write_image_sums`` wrote.

    Raises:
        InputError: the file is damaged or has other content.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        ids, pooling = [str(i) for i in arrays.pop("ids")], dict(json.loads(str(arrays.pop("pooling"))))
    except Exception as error:  # whatever numpy and zipfile raise of damaged bytes
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read ({reason}); evaluate the run again") from None
    bad = [
        key for key, sums in arrays.items() if sums.shape[:1] != (len(ids),) or str(pooling.get(key)) not in POOLINGS
    ]
    if bad or not ids or len(set(ids)) != len(ids):
        raise InputError(f"{path}: inconsistent {', '.join(bad) or 'ids'}; evaluate the run again")
    return ImageSums(ids, arrays, pooling)
