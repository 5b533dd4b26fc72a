"""Softmax attention inside windows, masked outside the image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError
from mtlsi_net.models.layers.subset import TaskLayer
from mtlsi_net.models.layers.task_layers import TaskLinear, count_heads

MASKED = -1.0e4
"""Added to logits of padded keys: exp gives 0 in every precision, and a window of only padding stays finite."""


class WindowAttention(TaskLayer):
    """Multi-head attention inside window x window squares with a learned relative position bias, per task.

    Args:
        window: side of the squares.
        shift: how far the squares' grid is moved up and left, 0..window-1.
    """

    per_task = ("position_bias",)

    def __init__(self, tasks: int, width: int, head_dim: int, window: int, shift: int) -> None:
        super().__init__()
        if window < 2 or not 0 <= shift < window:
            raise InputError(f"window={window} with shift={shift} gives no windows; use a window of at least 2")
        self.tasks, self.heads, self.window, self.shift = tasks, count_heads(width, head_dim), window, shift
        self.qkv = TaskLinear(tasks, width, 3 * width, bias=False)
        self.position_bias = nn.Parameter(torch.randn(tasks * self.heads, (2 * window - 1) ** 2) * 0.02)
        self.register_buffer("offsets", relative_offsets(window), persistent=False)
        self.offsets: Tensor

    def forward(self, x_BThwC: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, h, w, C) to the same shape; ``valid`` is (B, 1, h, w) or None."""
        batch, tasks, height, width, channels = x_BThwC.shape
        margins = self._margins(height, width)
        qkv = F.pad(self.qkv.tokens(x_BThwC), (0, 0, *margins))
        grid = qkv.shape[2] // self.window, qkv.shape[3] // self.window
        side = self.window
        windows = qkv.view(batch, tasks, grid[0], side, grid[1], side, 3, self.heads, channels // self.heads)
        windows = windows.permute(6, 0, 2, 4, 1, 7, 3, 5, 8)
        q, k, v = windows.reshape(3, batch * grid[0] * grid[1], tasks * self.heads, side**2, -1).unbind()
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(valid, x_BThwC, margins).to(q.dtype))
        y = y.view(batch, *grid, tasks, self.heads, side, side, -1).permute(0, 3, 1, 5, 2, 6, 4, 7)
        y = y.reshape(batch, tasks, grid[0] * side, grid[1] * side, channels)
        left, _, top, _ = margins
        return y[:, :, top : top + height, left : left + width]

    def _margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (left, right, top, bottom) that make the windows fit; a shift is a margin, nothing wraps around."""
        left = top = -self.shift % self.window
        return left, -(width + left) % self.window, top, -(height + top) % self.window

    def _bias(self, valid: Tensor | None, x: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
        """Return what is added to the logits, (1 or B * windows, T * heads, L, L)."""
        position = self.position_bias[:, self.offsets][None]
        if valid is None and not any(margins):
            return position
        batch, height, width = x.shape[0], x.shape[2], x.shape[3]
        real = torch.ones(batch, 1, height, width, dtype=torch.bool, device=x.device) if valid is None else valid
        real = F.pad(real, margins)[:, 0]
        rows, columns = real.shape[1] // self.window, real.shape[2] // self.window
        keys = (
            real.view(batch, rows, self.window, columns, self.window).transpose(2, 3).reshape(-1, 1, 1, self.window**2)
        )
        return position + (~keys).to(position.dtype) * MASKED


def relative_offsets(window: int) -> Tensor:
    """Return (L, L) indices, L = window**2: pairs with the same displacement share one of (2 window - 1)**2 values."""
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"))
    down = row[:, None] - row[None] + window - 1
    right = column[:, None] - column[None] + window - 1
    return down * (2 * window - 1) + right
