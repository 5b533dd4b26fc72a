"""Semantic decoders made of Cross-Window Integrated attention Blocks (CWIB), one decoder per task.

Paper: two branches, local and global, that inject global semantics into local features. Their form is our choice.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.subset import PerTaskStage
from mtlsi_net.models.layers.task_layers import (
    RESIDUAL_GAIN,
    ChannelNorm,
    ConvFeedForward,
    NormLayer,
    TaskLinear,
    count_heads,
)
from mtlsi_net.models.layers.windows import WindowAttention

EPS = 1.0e-6


class TokenAttention(nn.Module):
    """Every position of every task queries the semantic tokens, at a cost linear in positions."""

    def __init__(self, tasks: int, width: int, head_dim: int, token_width: int | None = None) -> None:
        super().__init__()
        self.heads, self.head_dim = count_heads(width, head_dim), head_dim
        self.query = TaskLinear(tasks, width, width, bias=False)
        self.key_value = TaskLinear(tasks, token_width or width, 2 * width, bias=False)

    def forward(self, x_BThwC: Tensor, tokens_BGLC: Tensor) -> Tensor:
        """Map (B, T, h, w, C) and tokens (B, 1 or T, L, C) to (B, T, h, w, C)."""
        batch, tasks = x_BThwC.shape[:2]
        q = self.query.tokens(x_BThwC).view(batch * tasks, -1, self.heads, self.head_dim).transpose(1, 2)
        kv = self.key_value.tokens(tokens_BGLC).view(batch * tasks, -1, 2, self.heads, self.head_dim)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind()
        return self.read(q, k, v).transpose(1, 2).reshape(x_BThwC.shape)

    def read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Map queries (B * T, heads, N, d) and keys and values (B * T, heads, L, d) to (B * T, heads, N, d)."""
        return F.scaled_dot_product_attention(q, k, v)


class LinearTokenAttention(TokenAttention):
    """The same by linear attention with phi = relu, for as many tokens as positions; zero tokens do not count.

    The normaliser is in float32.
    """

    def read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Map queries (B * T, heads, N, d) and keys and values (B * T, heads, L, d) to (B * T, heads, N, d)."""
        if q.dtype == torch.float16:  # the normaliser's inverse would overflow
            with torch.autocast(q.device.type, enabled=False):
                return self.read(q.float(), k.float(), v.float()).to(q.dtype)
        q, k = F.relu(q), F.relu(k) / k.shape[2]
        total = (q.float() * k.float().sum(2, keepdim=True)).sum(-1, keepdim=True)
        return (q @ (k.mT @ v)) * (total + EPS).reciprocal().to(q.dtype)


# -- branches of the block and their gate ---------------------------------------------------------------------------


class NoBranch(nn.Module):
    """Placeholder for a disabled branch."""

    def forward(self, *_: Tensor | None) -> None:
        """Return None."""


class Gate(nn.Module):
    """Gate that weighs the local and the global branch per position and channel."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.weigh = TaskLinear(tasks, 2 * width, width)

    def weights(self, local: Tensor, global_: Tensor) -> Tensor:
        """Return the share of the local branch, (B, T, h, w, C) in (0, 1)."""
        return self.weigh.tokens(torch.cat([local, global_], -1)).sigmoid()

    def forward(self, local: Tensor, global_: Tensor) -> Tensor:
        """Return g * local + (1 - g) * global, (B, T, h, w, C)."""
        return torch.lerp(global_, local, self.weights(local, global_))


class OneBranch(nn.Module):
    """Placeholder for the gate where one branch is disabled."""

    def forward(self, local: Tensor | None, global_: Tensor | None) -> Tensor | None:
        """Return the enabled branch."""
        return global_ if local is None else local


TOKEN_ATTENTIONS: dict[str, type[TokenAttention]] = {"softmax": TokenAttention, "linear": LinearTokenAttention}
BRANCHES = {"both": (True, True), "local": (True, False), "global": (False, True)}
"""Choice -> whether the local and the global branch are enabled."""


class CrossWindowBlock(Recomputed):
    """CWIB: windows give detail, tokens give the whole image, a gate per position and channel weighs the two.

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head.
        window: side of the windows.
        shift: of the windows' grid.
        branches: both, local or global.
        read_tokens: softmax or linear.
        token_width: channels of the tokens; None: C.
        norm: class of the norms.
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        window: int,
        shift: int,
        *,
        branches: str = "both",
        read_tokens: str = "softmax",
        token_width: int | None = None,
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        read = choose("read_tokens", read_tokens, TOKEN_ATTENTIONS)
        has_local, has_global = choose("branches", branches, BRANCHES)
        self.norm = norm(width, tasks)
        self.local = WindowAttention(tasks, width, head_dim, window, shift) if has_local else NoBranch()
        self.wide = (
            read(tasks, width, head_dim, token_width) if has_global else NoBranch()
        )  # the global branch; checkpoints have this name
        self.gate = Gate(tasks, width) if has_local and has_global else OneBranch()
        self.project = TaskLinear(tasks, width, width, gain=RESIDUAL_GAIN)
        self.feed_forward = ConvFeedForward(tasks, width, norm=norm)

    def forward(self, x_BTChw: Tensor, tokens_BGLC: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) and (B, 1 or T, L, C) to (B, T, C, h, w)."""
        y = self.norm.tokens(x_BTChw)
        mixed = self.gate(self.local(y, valid), self.wide(y, tokens_BGLC))
        return self.feed_forward(x_BTChw + self.project.tokens(mixed).movedim(-1, 2), valid)


class SemanticDecoder(PerTaskStage):
    """``depth`` CWIBs; every second one has its windows shifted by half.

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head.
        window: side of the windows, in positions of the working grid; no larger than the image there.
        depth: number of blocks.
        branches: ``both`` [paper], ``local`` or ``global`` alone.
        read_tokens: ``softmax``, or ``linear`` for token sets as large as the image.
        token_width: channels of the tokens; None: C.
        norm: class of the norms.

    Raises:
        InputError: an unknown option, or a depth below 1.

    Example:
        >>> import torch
        >>> decoder = SemanticDecoder(tasks=3, width=64, head_dim=32, window=4)
        >>> features, tokens = torch.rand(2, 3, 64, 8, 12), torch.rand(2, 3, 48, 64)
        >>> tuple(decoder(features, tokens, valid=None).shape)
        (2, 3, 64, 8, 12)
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        window: int = 8,
        depth: int = 1,
        *,
        branches: str = "both",
        read_tokens: str = "softmax",
        token_width: int | None = None,
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise InputError(f"depth={depth}; give at least one block, or use the identity decoder")
        options: dict[str, Any] = {
            "branches": branches,
            "read_tokens": read_tokens,
            "token_width": token_width,
            "norm": norm,
        }
        self.blocks = nn.ModuleList(
            CrossWindowBlock(tasks, width, head_dim, window, window // 2 * (i % 2), **options) for i in range(depth)
        )

    def forward(self, x_BTChw: Tensor, tokens_BGLC: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) and tokens (B, 1 or T, L, C) to (B, T, C, h, w); ``valid`` is (B, 1, h, w) or None."""
        x = x_BTChw
        for block in self.blocks:
            x = block(x, tokens_BGLC, valid)
        return x
