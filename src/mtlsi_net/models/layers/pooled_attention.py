"""Softmax attention from positions to the pooled positions of several maps, usually those of all tasks."""

import math

import torch
from torch import Tensor, nn

from mtlsi_net.core.errors import InputError
from mtlsi_net.models.layers.masking import align
from mtlsi_net.models.layers.task_layers import RESIDUAL_GAIN, TaskLinear
from mtlsi_net.models.layers.windows import MASKED


def sequence(x_BTChw: Tensor, heads: int) -> Tensor:
    """Map (B, T, C, h, w) to one sequence of all maps' positions per head, (B, heads, T * N, d)."""
    return torch.unflatten(x_BTChw.flatten(3), 2, (heads, -1)).permute(0, 2, 1, 4, 3).flatten(2, 3)


class PooledAttention(nn.Module):
    """Every query reads every source position of every map; all maps share the weights.

    ``logits`` and ``read`` are separate, for blocks that change the logits in between.

    Args:
        heads: a divisor of C.

    Raises:
        InputError: ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(f"heads={heads} does not divide width={width}; change one of them")
        self.heads = heads
        self.query = TaskLinear(1, width, width, bias=False)
        self.key = TaskLinear(1, width, width, bias=False)
        self.value = TaskLinear(1, width, width, bias=False)
        self.project = TaskLinear(1, width, width, gain=RESIDUAL_GAIN)

    def logits(self, queries_BTChw: Tensor, sources_BSCyx: Tensor) -> Tensor:
        """Return (B, heads, T * h * w, S * y * x)."""
        q, k = sequence(self.query(queries_BTChw), self.heads), sequence(self.key(sources_BSCyx), self.heads)
        return (q / math.sqrt(q.shape[-1])) @ k.mT

    def read(self, logits: Tensor, sources_BSCyx: Tensor, valid: Tensor | None, like: Tensor) -> Tensor:
        """Return what the queries read, in the shape of ``like``, the queries; ``valid`` (B, 1, y, x) is the sources'."""
        if valid is not None:
            real = align(valid, sources_BSCyx).expand(-1, sources_BSCyx.shape[1], -1, -1, -1)
            logits = logits + (~real).flatten(1)[:, None, None].to(logits.dtype) * MASKED
        y = logits.softmax(-1) @ sequence(self.value(sources_BSCyx), self.heads)
        y = torch.unflatten(y, 2, (like.shape[1], -1)).permute(0, 2, 1, 4, 3).reshape(like.shape)
        return self.project(y)

    def forward(self, queries_BTChw: Tensor, sources_BSCyx: Tensor, valid: Tensor | None) -> Tensor:
        """Map queries (B, T, C, h, w) and sources (B, S, C, y, x) to (B, T, C, h, w); ``valid`` is the sources'."""
        return self.read(self.logits(queries_BTChw, sources_BSCyx), sources_BSCyx, valid, queries_BTChw)
