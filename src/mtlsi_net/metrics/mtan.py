"""Averages over images and batches, as the code of MTAN and its successors computes scores; their names end in ``_mtan``.

That code scores one batch of consecutive test images after the other and averages the batches' scores, so that pixels of
images with few labels weigh more, and so do images of a smaller last batch. Scores here do not depend on how images
were really batched: an image's number says which batch it belongs to. docs/protocol/mtan.md says which published numbers
are averaged how.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import IGNORE
from mtlsi_net.metrics.depth import DepthMetric, depth_sums
from mtlsi_net.metrics.normals import LIMITS, NormalsMetric, angular_error
from mtlsi_net.metrics.segmentation import SegmentationMetric, confusion_matrix, hits_and_union

NORMALS_SCORES = ("mean", "median", *(f"within_{limit:g}" for limit in LIMITS))


def mtan_rules(batch: int | None, delta_m: Mapping[str, bool]) -> dict[str, Any]:
    """Return what a task's ``variant`` says of averages over batches: nothing without them.

    ``delta_m``: the task's scores that Delta m % averages -> whether higher is better.
    """
    return {} if batch is None else {"mtan_batch": batch, "delta_m": dict(delta_m)}


def image_numbers(ids: Sequence[str]) -> list[int]:
    """Return the numbers that ids end in: 12 of ``val/12``.

    Raises:
        InputError: an id that does not end in a number.
    """
    found = [re.search(r"[0-9]+$", sample_id) for sample_id in ids]
    if (lacking := [sample_id for sample_id, match in zip(ids, found, strict=True) if match is None]) != []:
        raise InputError(f"mtan_batch is set, but image {lacking[0]!r} has no number to be batched by; set it to null")
    return [int(match[0]) for match in found if match is not None]


class BatchAverages(Metric):
    """Part of a metric that averages over batches of consecutive images; ``update`` also takes the images' numbers.

    ``rows`` holds one row for each image or batch: its number, then values. The state is flat, float64.
    """

    width: int
    """Values of a row, with the number."""
    batch: int
    rows: list[Tensor]

    def keep_rows(self, batch: int) -> None:
        """Add the state."""
        self.batch = batch
        self._dtype = torch.float64  # of the empty state that torchmetrics sends for a process without images
        self.add_state("rows", [], dist_reduce_fx="cat")

    def add_row(self, number: int, values: Tensor) -> None:
        """Add one row."""
        self.rows.append(torch.cat([values.new_tensor([number], dtype=torch.float64), values.double()]))

    def table(self) -> Tensor:
        """Return all rows, (N, width)."""
        return flat_state(self.rows).view(-1, self.width)

    def per_batch(self) -> list[Tensor]:
        """Return the values of every batch's images, (n, width - 1), batches in order."""
        table = self.table()
        numbers = (table[:, 0] / self.batch).floor()
        return [table[numbers == number, 1:] for number in sorted(set(numbers.tolist()))]


def flat_state(state: list[Tensor] | Tensor) -> Tensor:
    """Return a state of flat tensors as one, whether of this process, a list, or of all, joined by torchmetrics."""
    if not isinstance(state, list):
        return state
    return torch.cat(state) if state else torch.empty(0, dtype=torch.float64)


def nan_mean(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the mean of rows (W,) without NaNs, each column for itself; NaN where nothing is left."""
    return torch.stack([*values]).nanmean(dim=0) if values else torch.full_like(like, float("nan"))


class MtanSegmentationMetric(SegmentationMetric, BatchAverages):
    """``SegmentationMetric``, and mIoU_mtan and pixel_accuracy_mtan: of every image, averaged over images, then batches.

    An image's mIoU averages the classes that occur in its labels or its prediction. Images without labels are left out.

    Args:
        num_classes: K.
        scored: indices of the classes that averages take; all if None.
        batch: images of a batch.
    """

    width = 3

    def __init__(self, num_classes: int, scored: Sequence[int] | None = None, batch: int = 1) -> None:
        super().__init__(num_classes, scored)
        self.keep_rows(batch)

    def update(self, prediction: Tensor, target: Tensor, numbers: Sequence[int]) -> None:  # type: ignore[override]
        """Count (B, 1, H, W) class predictions against (B, 1, H, W) labels, 255 invalid, of the images ``numbers``."""
        for one, label, number in zip(prediction, target, numbers, strict=True):
            confusion = confusion_matrix(one[None], label[None], self.num_classes)
            self.confusion += confusion
            hits, union = hits_and_union(confusion)[self.scored].double().unbind(1)
            accuracy = confusion.diagonal().sum().double() / confusion.sum()  # 0/0 is NaN, as documented
            self.add_row(number, torch.stack([(hits / union)[union > 0].mean(), accuracy]))

    def compute(self) -> dict[str, Tensor]:
        """Return the five scalars, float64."""
        batches = [rows.nanmean(dim=0) for rows in self.per_batch()]
        miou, accuracy = nan_mean(batches, self.confusion.new_zeros(2, dtype=torch.float64))
        return super().compute() | {"mIoU_mtan": miou, "pixel_accuracy_mtan": accuracy}


class MtanDepthMetric(DepthMetric, BatchAverages):
    """``DepthMetric`` with abs_err as the main metric, and abs_err_mtan and abs_rel_mtan: of every batch's pixels, averaged.

    Batches without labels are left out.

    Args:
        batch: images of a batch.
    """

    width = 4
    pooling = "ratio"

    def __init__(self, batch: int = 1) -> None:
        super().__init__()
        self.keep_rows(batch)

    def update(self, prediction: Tensor, target: Tensor, numbers: Sequence[int]) -> None:  # type: ignore[override]
        """Add (B, 1, H, W) against (B, 1, H, W), 255 invalid, of the images ``numbers``."""
        for one, label, number in zip(prediction, target, numbers, strict=True):
            sums = depth_sums(one[None], label[None])
            self.sums += sums
            self.add_row(number, sums[[1, 2, -1]])

    def image_sums(self) -> dict[str, Tensor]:
        """Return the absolute error and the number of pixels."""
        return {"abs_err": self.sums[[1, -1]]}

    def compute(self) -> dict[str, Tensor]:
        """Return the ten scalars, float64."""
        sums = [rows.sum(dim=0) for rows in self.per_batch()]
        absolute, relative = nan_mean([own[:2] / own[2] for own in sums], self.sums[:2])
        return super().compute() | {"abs_err_mtan": absolute, "abs_rel_mtan": relative}


class MtanNormalsMetric(NormalsMetric, BatchAverages):
    """``NormalsMetric``, and mean, median, within_11.25, within_22.5, within_30 of every batch's pixels, averaged: ``*_mtan``.

    These medians are exact. Angles are kept until their batch is whole. Batches without labels are left out.

    Args:
        batch: images of a batch.
    """

    width = 1 + len(NORMALS_SCORES)
    angles: list[Tensor]
    owners: list[Tensor]

    def __init__(self, batch: int = 1) -> None:
        super().__init__()
        self.keep_rows(batch)
        self.add_state("angles", [], dist_reduce_fx="cat")  # of images whose batch is not whole
        self.add_state("owners", [], dist_reduce_fx="cat")  # their numbers, each with how many angles it has

    def update(self, prediction: Tensor, target: Tensor, numbers: Sequence[int]) -> None:  # type: ignore[override]
        """Add (B, 3, H, W) vectors of any length against unit vectors, 255 invalid, of the images ``numbers``."""
        super().update(prediction, target)
        valid = (target != IGNORE).all(dim=1)
        angle = angular_error(prediction, target)[:, 0]
        for one, own, number in zip(angle, valid, numbers, strict=True):
            self.angles.append(one[own])
            self.owners.append(one.new_tensor([number, own.sum()]))
        self._finish()

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Merge another metric's state, and score the batches that are whole then."""
        super().merge_state(incoming_state)
        self._finish()

    def _finish(self) -> None:
        """Turn the angles of whole batches into rows."""
        numbers = [int(owner[0]) // self.batch for owner in self.owners]
        for whole in {number for number in numbers if numbers.count(number) == self.batch}:
            places = [place for place, number in enumerate(numbers) if number == whole]
            self.add_row(whole * self.batch, normals_scores(torch.cat([self.angles[place] for place in places])))
            self.angles = [own for place, own in enumerate(self.angles) if place not in places]
            self.owners = [own for place, own in enumerate(self.owners) if place not in places]
            numbers = [number for number in numbers if number != whole]

    def _pending(self) -> list[Tensor]:
        """Return the angles of each batch that is not whole."""
        numbers, counts = flat_state(self.owners).view(-1, 2).long().unbind(1)
        batches: dict[int, list[Tensor]] = {}
        for number, own in zip(numbers.tolist(), torch.split(flat_state(self.angles), counts.tolist()), strict=True):
            batches.setdefault(number // self.batch, []).append(own)
        return [torch.cat(own) for own in batches.values()]

    def compute(self) -> dict[str, Tensor]:
        """Return the eleven scalars, float64."""
        batches = [*(row[1:] for row in self.table()), *map(normals_scores, self._pending())]
        averages = nan_mean(batches, self.sums.new_zeros(len(NORMALS_SCORES)))
        return super().compute() | {f"{name}_mtan": own for name, own in zip(NORMALS_SCORES, averages, strict=True)}


def normals_scores(angles: Tensor) -> Tensor:
    """Return ``NORMALS_SCORES`` of angles in degrees, (N,), the median of an even number between two; NaN of none."""
    if angles.numel() == 0:
        return angles.new_full((len(NORMALS_SCORES),), float("nan"))
    within = [(angles < limit).double().mean() for limit in LIMITS]
    ordered, half = angles.sort().values, angles.numel() // 2
    median = (ordered[half] + ordered[(angles.numel() - 1) // 2]) / 2
    return torch.stack([angles.mean(), median, *within])
