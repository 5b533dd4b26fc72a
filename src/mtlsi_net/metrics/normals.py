"""Pixel-pooled angular errors of surface normals (docs/reference/metrics.md)."""

import torch
from torch import Tensor

from mtlsi_net.core.types import IGNORE
from mtlsi_net.metrics.base import PooledMetric, in_pieces

LIMITS = (11.25, 22.5, 30.0)
BINS_PER_DEGREE = 100
"""Resolution of the median: the centre of a bin of 0.01 degree, so at most 0.005 degree off."""

BINS = 180 * BINS_PER_DEGREE
TINY = 1e-300
"""Added to a cross product's length: of no vector, it makes the angle 90 degrees."""


def unit_vectors(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Return (B, C, H, W) divided by its lengths over channels, or by ``eps`` where they are shorter.

    What ``F.normalize(x, dim=1)`` is, ten times faster on a CPU, where torch's norm over any but the last axis is slow.
    Half precision is computed in float32.
    """
    y = x.to(torch.promote_types(x.dtype, torch.float32))
    return (y * y.square().sum(1, keepdim=True).clamp(min=eps**2).rsqrt()).to(x.dtype)


def angular_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the angle between vectors of any length, atan2(|p x g|, p . g), exact for small and for large angles.

    Args:
        prediction: (B, 3, H, W); a zero vector is 90 degrees from everything.
        target: (B, 3, H, W); values of invalid pixels give meaningless angles.

    Returns:
        (B, 1, H, W) degrees in [0, 180], float64.
    """
    return torch.cat([_angles(p.double(), g.double()) for p, g in in_pieces(prediction, target)], dim=1)[:, None]


def _angles(prediction: Tensor, target: Tensor) -> Tensor:
    (px, py, pz), (gx, gy, gz) = prediction.unbind(1), target.unbind(1)
    across = (py * gz - pz * gy).square() + (pz * gx - px * gz).square() + (px * gy - py * gx).square()
    along = px * gx + py * gy + pz * gz
    return torch.rad2deg(torch.atan2(across.sqrt() + TINY, along))


class NormalsMetric(PooledMetric):
    """mean, median and rmse in degrees, within_11.25, within_22.5 and within_30 as fractions, over all pixels.

    A pixel is valid if none of its three target channels is 255. Angles below the limit count as within. The median is
    exact to 0.005 degree. All are NaN while no valid pixel was seen. (Paper: mean; the others are the field's usual
    ones.)

    Example:
        >>> import torch
        >>> metric = NormalsMetric()
        >>> up, right = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
        >>> prediction, target = (torch.stack(vectors, 1)[None, :, None] for vectors in ([up, up], [up, right]))
        >>> metric.update(prediction, target)
        >>> scores = metric.compute()
        >>> round(scores["mean"].item(), 3), scores["within_11.25"].item()
        (45.0, 0.5)
    """

    pooling = "ratio"
    sums: Tensor
    histogram: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Sum of angles, sum of squares, pixels within each limit.
        self.add_state("sums", torch.zeros(2 + len(LIMITS), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("histogram", torch.zeros(BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add (B, 3, H, W) vectors of any length against (B, 3, H, W) unit vectors, 255 invalid."""
        valid = (target != IGNORE).all(dim=1, keepdim=True)
        angle = torch.where(valid, angular_error(prediction, target), -1.0)
        # A bin before the first takes the invalid pixels: no boolean indexing.
        bins = (angle * BINS_PER_DEGREE).long().clamp(-1, BINS - 1) + 1
        counts = torch.bincount(bins.flatten(), minlength=BINS + 1)[1:]
        counted = angle.clamp(min=0)
        within = [counts[: round(limit * BINS_PER_DEGREE)].sum() for limit in LIMITS]
        self.sums += torch.stack([counted.sum(), counted.square().sum(), *within])
        self.histogram += counts

    def _median(self, count: Tensor) -> Tensor:
        ranks = torch.stack([(count - 1) // 2, count // 2]).clamp(min=0)
        middle = torch.searchsorted(self.histogram.cumsum(0), ranks, right=True).double().mean()
        return torch.where(count > 0, (middle + 0.5) / BINS_PER_DEGREE, float("nan"))

    def image_sums(self) -> dict[str, Tensor]:
        """Return the sum of angles and the number of pixels."""
        return {"mean": torch.stack([self.sums[0], self.histogram.sum()])}

    def compute(self) -> dict[str, Tensor]:
        """Return the six scalars, float64."""
        count = self.histogram.sum()
        mean, mean_square, *within = self.sums / count  # 0/0 is NaN, as documented
        scores = {"mean": mean, "median": self._median(count), "rmse": mean_square.sqrt()}
        return scores | {f"within_{limit:g}": share for limit, share in zip(LIMITS, within, strict=True)}
