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
from mtlsi_net.metrics.boundary.arrays import Map, images_of, references_of, soft_maps
from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.presets import Preset, make_preset
from mtlsi_net.metrics.boundary.scores import Counts, Tally


class BoundaryFMeasure(PooledMetric):
    """odsF, oisF and AP over a data set; keeps only four integers per image and threshold.

    ``update(predictions, references)``: predictions and truths of images at their own size, as arrays or tensors; see
    ``update``. Images without annotators, or that count in no score, are skipped.

    Args:
        preset: rules, or their name in ``PRESETS``.
        estimate: count only the images of the subset, as validation during training does.

    Raises:
        InputError: an unknown preset.

    Example:
        >>> import numpy as np
        >>> truth = np.zeros((40, 60), np.uint8)
        >>> truth[:, 30] = 1
        >>> metric = BoundaryFMeasure("plain")
        >>> metric.update(0.8 * truth, truth)
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

    def extra_repr(self) -> str:
        """Return the rules for ``repr``."""
        return str(self.preset)

    def image_sums(self) -> dict[str, Tensor]:
        """Return the counts at each threshold for every group of images, except for the estimate."""
        groups = [(row, group) for row, group in enumerate(SCORE_GROUPS) if group != SUBSET and self.images[row] > 0]
        return {score_name("odsF", group): self.total[row] for row, group in groups}

    def update(self, predictions: Map | Sequence[Map], references: Map | Sequence[Map] | Sequence[Reference]) -> None:
        """Add images; they are counted in threads.

        Args:
            predictions: (B, 1, H, W) or (B, H, W); one image (H, W); or a sequence of (1, H, W) or (H, W). Probabilities in
                [0, 1], bytes 0 to 255, or 0 and 1 if none of the call holds more.
            references: as many truths, (H, W), or (A, H, W) of A annotators: 0 and 1, 0 to 255, booleans or floats in [0, 1];
                of the presets pascal and pascal_mti, segment numbers. A ``Reference`` also says in which scores it counts.

        Raises:
            InputError: other shapes or values; predictions and truths of different sizes or numbers.
        """
        single = isinstance(predictions, Tensor | np.ndarray) and predictions.ndim == 2
        images, truths = images_of(predictions), references_of(references, self.preset, single)
        if len(images) != len(truths):
            raise InputError(f"{len(images)} boundary predictions, but {len(truths)} truths; pass one for each image")
        pairs = [
            (image, reference)
            for image, reference in zip(images, truths, strict=True)
            if len(reference.maps) and (SUBSET in reference.groups if self.estimate else reference.groups)
        ]
        soft = soft_maps([image for image, _ in pairs])
        counted = [(own, reference) for own, (_, reference) in zip(soft, pairs, strict=True)]
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
