"""The boundary metric: counts for each threshold, pooled over the data set."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import SCORE_GROUPS, SUBSET, Reference, score_name
from mtlsi_net.metrics.base import PooledMetric
from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.presets import Preset, make_preset
from mtlsi_net.metrics.boundary.scores import Counts, Tally


class BoundaryFMeasure(PooledMetric):
    """odsF, oisF and AP over a data set; keeps only four integers per image and threshold.

    ``update(predictions, references)``: for each image (1, H, W) probabilities in [0, 1] at the size of its files, and
    its reference. Images without annotators, or that count in no score, are skipped.

    Args:
        preset: rules, or their name in ``PRESETS``.
        estimate: count only the images of the subset, as validation during training does.

    Raises:
        InputError: unknown preset; prediction and truth of different sizes.

    Example:
        >>> import numpy as np, torch
        >>> from mtlsi_net.core.types import Reference
        >>> edge = np.zeros((1, 40, 60), np.uint8)
        >>> edge[:, :, 30] = 255
        >>> metric = BoundaryFMeasure("plain")
        >>> metric.update([torch.from_numpy(edge / 255)], [Reference(edge, "boundaries")])
        >>> {name: round(float(score), 3) for name, score in metric.compute().items() if name.startswith("odsF")}
        {'odsF': 1.0}
    """

    total: Tensor
    best: Tensor
    images: Tensor

    def __init__(self, preset: str | Preset = "nyud", estimate: bool = False) -> None:
        super().__init__()
        self.preset = preset if isinstance(preset, Preset) else make_preset(preset)
        self.pooling = "best_f_between" if self.preset.interpolate else "best_f"
        self.estimate = estimate
        empty = Tally(self.preset)
        for name in ("total", "best", "images"):
            self.add_state(name, torch.from_numpy(getattr(empty, name)), dist_reduce_fx="sum")

    def image_sums(self) -> dict[str, Tensor]:
        """Return the counts at each threshold for every group of images, except for the estimate."""
        groups = [(row, group) for row, group in enumerate(SCORE_GROUPS) if group != SUBSET and self.images[row] > 0]
        return {score_name("odsF", group): self.total[row] for row, group in groups}

    def update(self, predictions: Sequence[Tensor], references: Sequence[Reference]) -> None:
        """Add images; they are counted in threads."""
        counted = [
            (quantise(prediction), reference)
            for prediction, reference in zip(predictions, references, strict=True)
            if len(reference.maps) and (SUBSET in reference.groups if self.estimate else reference.groups)
        ]
        tally = Tally(self.preset)
        with ThreadPoolExecutor() as pool:
            for counts, (_, reference) in zip(pool.map(self._count, counted), counted, strict=True):
                tally.add(counts, (SUBSET,) if self.estimate else reference.groups)
        self.total += torch.from_numpy(tally.total).to(self.total.device)
        self.best += torch.from_numpy(tally.best).to(self.best.device)
        self.images += torch.from_numpy(tally.images).to(self.images.device)

    def _count(self, counted: tuple[NDArray[np.uint8], Reference]) -> Counts:
        soft, reference = counted
        if soft.shape != reference.maps.shape[1:]:
            raise InputError(
                f"boundary prediction has shape {soft.shape}, but its ground truth {reference.maps.shape[1:]}"
            )
        return count_matches(soft, true_boundaries(reference, self.preset), self.preset)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores of ``Tally.scores`` as float64 scalars; without any image odsF is NaN."""
        tally = Tally(self.preset)
        tally.total, tally.best, tally.images = (s.cpu().numpy() for s in (self.total, self.best, self.images))
        scores = tally.scores() or {score_name("odsF", SUBSET if self.estimate else ""): float("nan")}
        return {key: torch.tensor(value, dtype=torch.float64) for key, value in scores.items()}


def quantise(probability: Tensor) -> NDArray[np.uint8]:
    """Return a (1, H, W) map in [0, 1] as the field's pictures store it, (H, W): trunc(255 p)."""
    return (probability.float() * 255).to(torch.uint8).cpu().numpy()[0]
