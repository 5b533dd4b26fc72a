"""Base class of metrics that can report the contribution of a single image."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchmetrics import Metric

AT_ONCE = 1 << 15
"""Pixels whose temporary values in float64 stay in a processor's cache."""


def in_pieces(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield a few rows of maps (B, C, H, W) after the other, which on a CPU is faster than all at once; elsewhere all."""
    batch, _, height, width = maps[0].shape
    rows = max(1, AT_ONCE // max(1, batch * width)) if maps[0].device.type == "cpu" else max(1, height)
    return zip(*(torch.split(x, rows, dim=2) for x in maps), strict=True)


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
