"""Counts summed over images, for every group of images that a score is taken over."""

from collections.abc import Sequence

import numpy as np

from mtlsi_net.core.types import SCORE_GROUPS, SUBSET, score_name
from mtlsi_net.metrics.boundary.presets import Preset
from mtlsi_net.metrics.boundary.scores import Counts, best_of, boundary_scores


class Tally:
    """Sums over images.

    Attributes:
        total: (groups, thresholds, 4) counts.
        best: (groups, 4) counts, each image at its own best threshold.
        images: (groups,) numbers of images.
    """

    def __init__(self, preset: Preset) -> None:
        self.preset, groups = preset, len(SCORE_GROUPS)
        self.total: Counts = np.zeros((groups, len(preset.thresholds), 4), np.int64)
        self.best: Counts = np.zeros((groups, 4), np.int64)
        self.images: Counts = np.zeros(groups, np.int64)

    def add(self, counts: Counts, groups: Sequence[str]) -> None:
        """Add one image's (thresholds, 4) counts to the groups that it belongs to."""
        rows = [SCORE_GROUPS.index(group) for group in groups]
        self.total[rows] += counts
        self.best[rows] += best_of(counts, self.preset.interpolate)
        self.images[rows] += 1

    def scores(self) -> dict[str, float]:
        """Return odsF, oisF, AP, threshold, precision, recall and images of every group that has images.

        Those of a group other than the main one bear its name: ``odsF_partial``. The subset is for odsF alone.
        """
        found: dict[str, float] = {}
        for row, group in enumerate(SCORE_GROUPS):
            if images := int(self.images[row]):
                thresholds = np.array(self.preset.thresholds)
                scores = boundary_scores(self.total[row], self.best[row], thresholds, self.preset.interpolate)
                if group == SUBSET:
                    scores = {"odsF": scores["odsF"]}
                found |= {score_name(key, group): value for key, value in {**scores, "images": images}.items()}
        return found
