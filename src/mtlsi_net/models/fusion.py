"""Multi-Task Multi-scale Query Linear Fusion Block (MT-MQLFB): all tasks read one global context matrix.

Paper: linear attention with one context shared by the tasks, and queries at several scales. All else is our choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.models.layers.masking import align
from mtlsi_net.models.layers.task_layers import (
    RESIDUAL_GAIN,
    ChannelNorm,
    ConvFeedForward,
    TaskConv,
    TaskLinear,
    count_heads,
)

EPS = 1.0e-6


def position_weights(keys_BTChw: Tensor, valid: Tensor | None) -> Tensor | float:
    """Return each position's share of the mean over tasks and valid positions: 1/(TN), or 0 where padded."""
    tasks, height, width = keys_BTChw.shape[1], *keys_BTChw.shape[-2:]
    if valid is None:
        return 1 / (tasks * height * width)
    real = align(valid, keys_BTChw)
    count = real.sum(dim=(-2, -1), keepdim=True).clamp(min=1)  # an image of padding alone has no context, not NaN
    dtype = torch.promote_types(keys_BTChw.dtype, torch.float32)
    return (real.to(dtype) / (tasks * count)).to(keys_BTChw.dtype)


def split_heads(x_BTChw: Tensor, heads: int) -> Tensor:
    """Map (B, T, C, h, w) to (B, T, heads, d, N)."""
    return torch.unflatten(x_BTChw.flatten(3), 2, (heads, -1))


def global_context(k: Tensor, v: Tensor, weight: Tensor | float, heads: int) -> tuple[Tensor, Tensor]:
    """Return G = mean of phi(k) v^T, (B, heads, d, d), and z = mean of phi(k), (B, heads, d).

    The mean runs over tasks and valid positions; its factor goes into the keys before the product, so that no sum of
    T * N products has to fit into the number format.

    Args:
        k: (B, T, C, h, w), phi already applied, never negative.
        v: (B, T, C, h, w).
        weight: ``position_weights``.
        heads: C / d.
    """
    keys, values = split_heads(k * weight, heads), split_heads(v, heads)
    total = keys.sum(dim=(1, -1), dtype=torch.promote_types(k.dtype, torch.float32))
    return (keys @ values.mT).sum(1), total


def normalised_query(q: Tensor, total: Tensor) -> Tensor:
    """Return q / (q . z + eps) per head, in the shape of ``q`` (B, T, C, h, w); the division is in float32.

    Args:
        q: phi already applied.
        total: z, (B, heads, d).
    """
    heads = split_heads(q, total.shape[1])
    norm = total[:, None, :, None].to(q.dtype) @ heads
    inverse = (norm.to(total.dtype) + EPS).reciprocal()
    return (heads * inverse.to(q.dtype)).reshape(q.shape)


class SharedContextAttention(nn.Module):
    """Linear attention of every task's multi-scale queries to one context of all tasks.

    Equal to kernel attention with phi = relu over all T * N positions, at a cost linear in N, T and S. For the backward
    pass it saves (2 S + 6) * B * T * N * C values, the whole block (2 S + 18), and nothing that grows faster.

    Args:
        tasks: T.
        width: C.
        head_dim: d.
        scales: odd kernel sizes of the queries' depthwise convolutions.
    """

    def __init__(self, tasks: int, width: int, head_dim: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.heads = count_heads(width, head_dim)
        self.query = TaskLinear(tasks, width, width)
        self.key = TaskLinear(tasks, width, width)
        self.value = TaskLinear(tasks, width, width, bias=False)
        self.scales = nn.ModuleList(TaskConv(tasks, width, width, k, depthwise=True) for k in scales)
        self.project = TaskLinear(tasks, width * len(scales), width, bias=False, gain=RESIDUAL_GAIN)

    def queries(self, x_BTChw: Tensor, valid: Tensor | None) -> list[Tensor]:
        """Return phi of the queries, S times (B, T, C, h, w)."""
        base = self.query(x_BTChw)
        return [F.relu(scale(base, valid)) for scale in self.scales]

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map normalised features (B, T, C, h, w) to what is added to them."""
        queries, k, v = self.queries(x_BTChw, valid), F.relu(self.key(x_BTChw)), self.value(x_BTChw)
        if k.dtype != torch.float16:
            return self.read(queries, k, v, valid)
        with torch.autocast(k.device.type, enabled=False):  # float16 would overflow
            return self.read([q.float() for q in queries], k.float(), v.float(), valid).to(k.dtype)

    def read(self, queries: Sequence[Tensor], k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """Return the projected attention output, (B, T, C, h, w), from phi(q), phi(k) and v."""
        context, total = global_context(k, v, position_weights(k, valid), self.heads)
        q = torch.cat([normalised_query(query, total) for query in queries], 2)
        return torch.unflatten(self.fold(context) @ q.flatten(3), 3, q.shape[3:])

    def fold(self, context: Tensor) -> Tensor:
        """Return projection times context, (B, T, C, S * C): exact, and no output of a single scale is ever stored."""
        weight = torch.unflatten(self.project.weight.to(context.dtype), 2, (len(self.scales), self.heads, -1))
        return torch.einsum("bhde,tcshe->btcshd", context, weight).flatten(3)


class FusionBlock(nn.Module):
    """x + attention(norm(x)), then the convolutional feed-forward."""

    def __init__(self, tasks: int, width: int, head_dim: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, tasks)
        self.attention = SharedContextAttention(tasks, width, head_dim, scales)
        self.feed_forward = ConvFeedForward(tasks, width)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape."""
        x = x_BTChw + self.attention(self.norm(x_BTChw), valid)
        out: Tensor = self.feed_forward(x, valid)
        return out


class MultiScaleQueryFusion(nn.Module):
    """``depth`` MT-MQLFBs.

    Args:
        tasks: T.
        width: C.
        head_dim: d, a divisor of C, 32 or more.
        scales: odd kernel sizes of the queries [paper: several; which is our choice].
        depth: number of blocks.
    """

    def __init__(
        self, tasks: int, width: int, head_dim: int, scales: Sequence[int] = (1, 3, 5), depth: int = 1
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FusionBlock(tasks, width, head_dim, scales) for _ in range(depth))

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape; ``valid`` is (B, 1, h, w) or None."""
        x = x_BTChw
        for block in self.blocks:
            x = block(x, valid)
        return x
