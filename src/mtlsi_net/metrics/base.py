"""Metrics that can say what a single image contributed."""

from torch import Tensor
from torchmetrics import Metric


class PooledMetric(Metric):
    """A metric whose main values follow, by a formula of ``mtlsi_net.metrics.per_image``, from sums over images.

    Attributes:
        pooling: name of the formula, in ``POOLINGS``.
    """

    is_differentiable = False
    full_state_update = False
    pooling: str

    def image_sums(self) -> dict[str, Tensor]:
        """Return name of a main metric -> what the formula reads, of what this metric has seen; sums add up."""
        raise NotImplementedError
