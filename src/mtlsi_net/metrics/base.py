"""Base class of metrics that can report the contribution of a single image."""

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
        """Return main metric -> input sums of its formula over everything seen so far; sums of several metrics add up."""
        raise NotImplementedError
