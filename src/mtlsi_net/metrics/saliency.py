"""Pixel-pooled maximal F-measure of saliency (docs/protocol/index.md)."""

import torch
from torch import Tensor

from mtlsi_net.core.types import IGNORE
from mtlsi_net.metrics.base import PooledMetric
from mtlsi_net.metrics.per_image import max_f

THRESHOLDS = torch.arange(0.05, 1, 0.05)
"""The lineage's 19 float32 thresholds 0.05..0.95; made on the CPU, as rounding differs between devices."""


def count_by_level(score: Tensor, target: Tensor) -> Tensor:
    """Count pixels by how many thresholds their score reaches (score >= threshold).

    Args:
        score: (B, 1, H, W) float32.
        target: (B, 1, H, W) in [0, 1], positive above 0.5, 255 invalid.

    Returns:
        (2, 20) int64: negatives and positives at levels 0..19.
    """
    levels = THRESHOLDS.numel() + 1
    level = torch.bucketize(score.float().contiguous(), THRESHOLDS.to(score.device), right=True)
    bins = torch.where(target != IGNORE, level + levels * (target > 0.5), 2 * levels)
    return torch.bincount(bins.flatten(), minlength=2 * levels + 1)[:-1].reshape(2, levels)


class SaliencyMetric(PooledMetric):
    """maxF and maxF_invpt, as fractions, over all pixels of the set; NaN while no valid pixel was seen.

    maxF is the paper's protocol, corrected. maxF_invpt passes the probability through a second sigmoid first, as InvPT,
    TaskPrompter, MLoRE and MTMamba do: only for comparison with their published numbers.

    Example:
        >>> import torch
        >>> metric = SaliencyMetric()
        >>> metric.update(torch.tensor([[[[0.9, 0.8, 0.1]]]]), torch.tensor([[[[1.0, 1.0, 0.0]]]]))
        >>> metric.compute()["maxF"].item()
        1.0
    """

    higher_is_better = True
    pooling = "max_f"
    counts: Tensor
    counts_invpt: Tensor

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(2, THRESHOLDS.numel() + 1, dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")
        self.add_state("counts_invpt", zeros.clone(), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count (B, 1, H, W) probabilities against (B, 1, H, W) labels in [0, 1], 255 invalid."""
        self.counts += count_by_level(prediction, target)
        self.counts_invpt += count_by_level(prediction.float().sigmoid(), target)

    def image_sums(self) -> dict[str, Tensor]:
        """Return the pixels by level, of both variants."""
        return {"maxF": self.counts, "maxF_invpt": self.counts_invpt}

    def compute(self) -> dict[str, Tensor]:
        """Return the two scalars, float64."""
        return {name: torch.as_tensor(max_f(sums.cpu().numpy())) for name, sums in self.image_sums().items()}
