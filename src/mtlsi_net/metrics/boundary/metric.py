"""The boundary metric: counts for each threshold, pooled over the data set."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.metrics.boundary.matching import Matcher
from mtlsi_net.metrics.boundary.nms import suppress_non_maxima
from mtlsi_net.metrics.boundary.scores import Counts, boundary_scores, precision_recall_f
from mtlsi_net.metrics.boundary.thinning import BITS, FRAME, Mask, differences, frame, pack, seg2bmap, thin, thin_words
from mtlsi_net.specs import IGNORE
from mtlsi_net.utils.errors import UserError, nearest_names

HUNDREDTHS = tuple(k / 100 for k in range(1, 100))
SEISM_THRESHOLDS = (0.001, *HUNDREDTHS, 0.999)


@dataclass(frozen=True)
class Preset:
    """Rules of one boundary protocol.

    Attributes:
        max_dist: largest distance of a match, as a share of the image diagonal.
        nms: suppress non-maxima before thresholds are applied, as SEISM does; then ``> t`` instead of ``>= t``.
        thin: thin the prediction at every threshold.
        thresholds: in (0, 1).
        label_boundaries: pass the ground truth through seg2bmap and thinning, as SEISM does with NYUDv2's files.
    """

    max_dist: float
    nms: bool
    thin: bool
    thresholds: tuple[float, ...]
    label_boundaries: bool


PRESETS = {
    "nyud": Preset(0.011, nms=True, thin=True, thresholds=SEISM_THRESHOLDS, label_boundaries=True),
    "pascal": Preset(0.0075, nms=True, thin=True, thresholds=SEISM_THRESHOLDS, label_boundaries=False),
    "plain": Preset(0.0075, nms=False, thin=True, thresholds=HUNDREDTHS, label_boundaries=False),
}


def count_matches(soft: NDArray[np.uint8], truth: Mask, preset: Preset) -> Counts:
    """Return (thresholds, 4) counts of one image against one ground truth.

    Args:
        soft: (H, W) boundary strength, trunc(255 * probability).
        truth: (H, W) boundary pixels as stored.
        preset: the rules.
    """
    if preset.label_boundaries:
        truth = thin(seg2bmap(truth))
    radius = preset.max_dist * float(np.hypot(*truth.shape))
    border = max(int(radius) + 1, FRAME)
    passed = frame(thresholds_passed(soft, preset), border)
    matcher = Matcher(frame(truth, border), radius)
    sum_truth, sum_predicted = int(truth.sum()), 0
    counts = np.zeros((len(preset.thresholds), 4), np.int64)
    before = thinned_before = np.zeros((passed.shape[0], passed.shape[1] // BITS), np.uint64)
    for row in reversed(
        range(len(preset.thresholds))
    ):  # from few pixels to many: neighbours have most pixels in common
        words = pack(passed > row)
        if not np.array_equal(words, before):
            thinned = words.copy()
            if preset.thin:
                thin_words(thinned.ravel(), thinned.shape[1])
            removed, added = differences(thinned_before.view(np.uint8).ravel(), thinned.view(np.uint8).ravel())
            matcher.update(removed, added)
            sum_predicted += added.size - removed.size
            before, thinned_before = words, thinned
        counts[row] = matcher.size, sum_truth, matcher.size, sum_predicted
    return counts


def thresholds_passed(soft: NDArray[np.uint8], preset: Preset) -> NDArray[np.integer]:
    """Return how many of the preset's rising thresholds each pixel of an (H, W) map passes."""
    kind = np.min_scalar_type(len(preset.thresholds))
    side: Literal["left", "right"] = "left" if preset.nms else "right"
    if not preset.nms:
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        return np.searchsorted(preset.thresholds, values.astype(np.float64), side).astype(kind)[soft]
    strength = suppress_non_maxima(soft.astype(np.float32) / np.float32(255))
    passed = np.zeros(soft.shape, kind)
    kept = strength > 0
    passed[kept] = np.searchsorted(preset.thresholds, strength[kept].astype(np.float64), side)
    return passed


class BoundaryMetric(Metric):
    """odsF, oisF and AP over a data set; four integers an image and threshold are all it keeps.

    ``update(prediction, target)``: (B, 1, H, W) probabilities in [0, 1]; (B, 1, H, W) boundaries in {0, 1}, 255 on
    padding, which must leave a rectangle. Images that are padding altogether are skipped.

    Args:
        preset: ``nyud``, ``pascal`` or ``plain``.

    Raises:
        UserError: unknown preset.
    """

    full_state_update = False
    total: Tensor
    best: Tensor

    def __init__(self, preset: str = "nyud") -> None:
        super().__init__()
        if preset not in PRESETS:
            raise UserError(f"boundary preset {preset!r} is unknown; {nearest_names(preset, PRESETS)}")
        self.preset = PRESETS[preset]
        zeros = torch.zeros(len(self.preset.thresholds), 4, dtype=torch.int64)
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("best", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add the images of one batch."""
        soft = (prediction.float() * 255).to(torch.uint8).cpu().numpy()[:, 0]
        labels = target.cpu().numpy()[:, 0]
        with ThreadPoolExecutor() as pool:
            for counts in pool.map(self._count, soft, labels):
                if counts is not None:
                    self.total += torch.from_numpy(counts).to(self.total.device)
                    best = counts[int(np.argmax(precision_recall_f(counts)[2]))]
                    self.best += torch.from_numpy(best).to(self.best.device)

    def _count(self, soft: NDArray[np.uint8], labels: NDArray[np.float32]) -> Counts | None:
        valid = labels != IGNORE
        if not valid.any():
            return None
        rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        truth = (labels[window] > 0.5) & valid[window]
        return count_matches(soft[window], truth, self.preset)

    def compute(self) -> dict[str, Tensor]:
        """Return odsF, oisF, AP, threshold, precision, recall as float64 scalars."""
        scores = boundary_scores(self.total.cpu().numpy(), self.best.cpu().numpy(), np.array(self.preset.thresholds))
        return {key: torch.tensor(value, dtype=torch.float64) for key, value in scores.items()}
