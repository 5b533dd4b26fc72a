"""Semantic decoders made of Cross-Window Integrated attention Blocks (CWIB), one decoder per task.

Paper: two branches, local and global, that inject global semantics into local features. Their form is our choice.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.models.layers.task_layers import RESIDUAL_GAIN, ChannelNorm, ConvFeedForward, TaskLinear, count_heads
from mtlsi_net.models.layers.windows import WindowAttention


class TokenAttention(nn.Module):
    """Every position of every task queries the shared semantic tokens, at a cost linear in positions.

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head.
    """

    def __init__(self, tasks: int, width: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = count_heads(width, head_dim), head_dim
        self.query = TaskLinear(tasks, width, width, bias=False)
        self.key_value = TaskLinear(tasks, width, 2 * width, bias=False)

    def forward(self, x_BThwC: Tensor, tokens_BLC: Tensor) -> Tensor:
        """Map (B, T, h, w, C) and (B, L, C) to (B, T, h, w, C)."""
        batch, tasks = x_BThwC.shape[:2]
        q = self.query.tokens(x_BThwC).view(batch * tasks, -1, self.heads, self.head_dim).transpose(1, 2)
        kv = self.key_value.tokens(tokens_BLC[:, None]).view(batch * tasks, -1, 2, self.heads, self.head_dim)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind()
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return y.reshape(x_BThwC.shape)


class CrossWindowBlock(nn.Module):
    """CWIB: windows give detail, tokens give the whole image, a gate per position and channel weighs the two.

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head.
        window: side of the windows.
        shift: of the windows' grid.
    """

    def __init__(self, tasks: int, width: int, head_dim: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, tasks)
        self.local = WindowAttention(tasks, width, head_dim, window, shift)
        self.wide = TokenAttention(tasks, width, head_dim)
        self.gate = TaskLinear(tasks, 2 * width, width)
        self.project = TaskLinear(tasks, width, width, gain=RESIDUAL_GAIN)
        self.feed_forward = ConvFeedForward(tasks, width)

    def forward(self, x_BTChw: Tensor, tokens_BLC: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) and (B, L, C) to (B, T, C, h, w)."""
        y = self.norm.tokens(x_BTChw)
        local, wide = self.local(y, valid), self.wide(y, tokens_BLC)
        gate = self.gate.tokens(torch.cat([local, wide], -1)).sigmoid()
        mixed = self.project.tokens(torch.lerp(wide, local, gate))
        out: Tensor = self.feed_forward(x_BTChw + mixed.movedim(-1, 2), valid)
        return out


class SemanticDecoder(nn.Module):
    """``depth`` CWIBs; every second one has its windows shifted by half.

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head.
        window: side of the windows, in positions of the working grid.
        depth: number of blocks.
    """

    def __init__(self, tasks: int, width: int, head_dim: int, window: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            CrossWindowBlock(tasks, width, head_dim, window, window // 2 * (i % 2)) for i in range(depth)
        )

    def forward(self, x_BTChw: Tensor, tokens_BLC: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) and tokens (B, L, C) to (B, T, C, h, w); ``valid`` is (B, 1, h, w) or None."""
        x = x_BTChw
        for block in self.blocks:
            x = block(x, tokens_BLC, valid)
        return x
