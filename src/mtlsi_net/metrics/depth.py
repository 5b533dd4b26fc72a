"""Pixel-pooled depth errors (docs/reference/metrics.md): no crop, no scaling, no cap."""

import torch
from torch import Tensor

from mtlsi_net.core.types import IGNORE
from mtlsi_net.metrics.base import PooledMetric, in_pieces

SMALLEST = 1e-9
"""Metres that stand for values <= 0, which have no logarithm (lineage)."""

RATIOS = (1.25, 1.25**2, 1.25**3)


def depth_sums(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the sums over valid pixels from which all depth metrics follow.

    Args:
        prediction: (B, 1, H, W) metres; values <= 0 count as 1e-9.
        target: (B, 1, H, W) metres, 255 invalid.

    Returns:
        (9,) float64: squared error, |error|, |error|/target, squared log error, squared error/target, pixels whose ratio
        max(p/t, t/p) is below 1.25, 1.25^2, 1.25^3, and the number of valid pixels.
    """
    return torch.stack([_sums(*piece) for piece in in_pieces(prediction, target)]).sum(0)


def _sums(prediction: Tensor, target: Tensor) -> Tensor:
    valid = target != IGNORE
    t = target.double().clamp(min=SMALLEST)
    p = torch.where(valid, prediction, target).double().clamp(min=SMALLEST)  # an invalid pixel has no error
    error, ratio = (p - t).abs(), p / t
    squared = error.square()
    terms = [squared, error, error / t, ratio.log().square(), squared / t]
    larger = torch.maximum(ratio, t / p)
    below = [((larger < limit) & valid).sum() for limit in RATIOS]
    return torch.stack([*(term.sum() for term in terms), *below, valid.sum()])


class DepthMetric(PooledMetric):
    """rmse and log_rmse, abs_err, abs_rel, sq_rel, delta1, delta2, delta3 over all pixels of the set.

    rmse, abs_err and sq_rel in metres, delta as fractions, the others without unit (paper: rmse; the others are usual in the
    field). All are NaN while no valid pixel was seen.

    Example:
        >>> import torch
        >>> metric = DepthMetric()
        >>> metric.update(torch.tensor([[[[1.0, 2.0, 9.0]]]]), torch.tensor([[[[1.0, 4.0, 255.0]]]]))  # 255: no label
        >>> scores = metric.compute()
        >>> round(scores["rmse"].item(), 4), scores["abs_rel"].item(), scores["delta1"].item()
        (1.4142, 0.25, 0.5)
    """

    pooling = "root_ratio"
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(9, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add (B, 1, H, W) metres against (B, 1, H, W) metres, 255 invalid; neither is changed."""
        self.sums += depth_sums(prediction, target)

    def image_sums(self) -> dict[str, Tensor]:
        """Return the squared error and the number of pixels."""
        return {"rmse": self.sums[[0, -1]]}

    def compute(self) -> dict[str, Tensor]:
        """Return the eight scalars, float64."""
        means = self.sums[:-1] / self.sums[-1]  # 0/0 is NaN, as documented
        squared, abs_err, abs_rel, log_squared, sq_rel, *deltas = means
        scores = {"rmse": squared.sqrt(), "abs_err": abs_err, "abs_rel": abs_rel}
        scores |= {"log_rmse": log_squared.sqrt(), "sq_rel": sq_rel}
        return scores | {f"delta{i}": delta for i, delta in enumerate(deltas, start=1)}
