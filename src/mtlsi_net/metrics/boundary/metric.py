"""The boundary metric: counts for each threshold, pooled over the data set."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.presets import make_preset
from mtlsi_net.metrics.boundary.scores import Counts, best_of, boundary_scores
from mtlsi_net.specs import SCORE_GROUPS, SUBSET, Reference, score_name
from mtlsi_net.utils.errors import UserError


class BoundaryMetric(Metric):
    """odsF, oisF and AP over a data set; four integers an image and threshold are all it keeps.

    ``update(predictions, references)``: for each image (1, H, W) probabilities in [0, 1] at the size of its files, and
    its reference. Images without annotators are skipped.

    Args:
        preset: see ``PRESETS``.
        estimate: count only the images of the subset, as validation during training does.

    Raises:
        UserError: unknown preset; prediction and truth of different sizes.
    """

    full_state_update = False
    total: Tensor
    best: Tensor
    images: Tensor

    def __init__(self, preset: str = "nyud", estimate: bool = False) -> None:
        super().__init__()
        self.preset, self.estimate = make_preset(preset), estimate
        groups, thresholds = len(SCORE_GROUPS), len(self.preset.thresholds)
        self.add_state("total", torch.zeros(groups, thresholds, 4, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("best", torch.zeros(groups, 4, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(groups, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Tensor], references: Sequence[Reference]) -> None:
        """Add images; they are counted in threads."""
        counted = [
            (quantise(prediction), reference)
            for prediction, reference in zip(predictions, references, strict=True)
            if len(reference.maps) and (SUBSET in reference.groups or not self.estimate)
        ]
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda pair: self._count(*pair), counted))
        for counts, (_, reference) in zip(found, counted, strict=True):
            self.add(counts, (SUBSET,) if self.estimate else reference.groups)

    def _count(self, soft: NDArray[np.uint8], reference: Reference) -> Counts:
        if soft.shape != reference.maps.shape[1:]:
            raise UserError(f"boundary prediction is {soft.shape}, its ground truth {reference.maps.shape[1:]}")
        return count_matches(soft, true_boundaries(reference, self.preset), self.preset)

    def add(self, counts: Counts, groups: Sequence[str]) -> None:
        """Add one image's (thresholds, 4) counts to the scores that it counts in."""
        best = best_of(counts, self.preset.interpolate)
        for row in map(SCORE_GROUPS.index, groups):
            self.total[row] += torch.from_numpy(counts).to(self.total.device)
            self.best[row] += torch.from_numpy(best).to(self.best.device)
            self.images[row] += 1

    def compute(self) -> dict[str, Tensor]:
        """Return odsF, oisF, AP, threshold, precision, recall and number of images as float64 scalars.

        Those of a group, such as ``odsF_partial``, are there only if it has images; without any image odsF is NaN.
        """
        thresholds, interpolate = np.array(self.preset.thresholds), self.preset.interpolate
        scores: dict[str, float] = {}
        for row, group in enumerate(SCORE_GROUPS):
            if images := int(self.images[row]):
                total, best = self.total[row].cpu().numpy(), self.best[row].cpu().numpy()
                found = {**boundary_scores(total, best, thresholds, interpolate), "images": images}
                scores |= {score_name(key, group): float(value) for key, value in found.items()}  # type: ignore[arg-type] # TypedDict values are objects
        return {
            key: torch.tensor(value, dtype=torch.float64) for key, value in (scores or {"odsF": float("nan")}).items()
        }


def quantise(probability: Tensor) -> NDArray[np.uint8]:
    """Return a (1, H, W) map in [0, 1] as the field's pictures store it, (H, W): trunc(255 p)."""
    return (probability.float() * 255).to(torch.uint8).cpu().numpy()[0]
