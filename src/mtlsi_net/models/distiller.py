"""Semantic Token Distiller (STD): task features to few tokens that carry what all tasks know.

Paper: compact semantic tokens with cross-task knowledge. How they are made is our choice.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import align, valid_coordinates
from mtlsi_net.models.layers.subset import TaskLayer
from mtlsi_net.models.layers.task_layers import (
    RESIDUAL_GAIN,
    ChannelNorm,
    NormLayer,
    TaskLinear,
    Unchanged,
    count_heads,
)

LOGIT_STD = 2.5
"""Initial spread of the assignment logits: much less, and all tokens start as the same mean of the image."""


class TokenMixer(nn.Module):
    """One pre-norm transformer layer over (B, L, C) tokens; its cost does not depend on the image."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.heads = count_heads(width, head_dim)
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x_BLC: Tensor) -> Tensor:
        """Map (B, L, C) to the same shape."""
        q, k, v = self.qkv(self.norm(x_BLC)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x_BLC + self.project(mixed)
        return x + self.mlp(self.mlp_norm(x))


class TokenPositions(nn.Module):
    """Adds position information to each token: an MLP of the mean and spread of its assignment."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, tokens_BTMC: Tensor, assignment_BTMhw: Tensor, valid: Tensor | None) -> Tensor:
        """Map tokens (B, T, M, C) to the same shape."""
        where = self.moments(assignment_BTMhw, valid).to(tokens_BTMC.dtype)
        return tokens_BTMC + self.mlp(where)

    @staticmethod
    def moments(assignment_BTMhw: Tensor, valid: Tensor | None) -> Tensor:
        """Return mean y, mean x, and their standard deviations, (B, T, M, 4), in units where the valid part is 0..1."""
        means, spreads = [], []
        for at, across in zip(valid_coordinates(valid, assignment_BTMhw.shape[-2:]), (-1, -2), strict=True):
            along = assignment_BTMhw.sum(across)  # (B, T, M, h or w)
            place = at.to(along)[:, None, None]
            mean = (along * place).sum(-1, keepdim=True)
            means.append(mean)
            spreads.append(((along * (place - mean).square()).sum(-1, keepdim=True) + 1e-6).sqrt())
        return torch.cat([*means, *spreads], -1)


def over_positions(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Return softmax over valid positions: tokens choose positions independently."""
    if valid is not None:
        logits = logits.masked_fill(~align(valid, logits), torch.finfo(logits.dtype).min)
    return torch.softmax(logits.flatten(3), -1)


def over_slots(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Return softmax over tokens, then shares of each token's sum over valid positions: tokens compete for positions."""
    claims = torch.softmax(logits, 2)
    if valid is not None:
        claims = claims * align(valid, claims).to(claims.dtype)
    claims = claims.flatten(3)
    return claims / claims.sum(-1, keepdim=True).clamp(min=torch.finfo(claims.dtype).eps)


ASSIGNMENTS = {"positions": over_positions, "slot": over_slots}


class SemanticTokenDistiller(Recomputed, TaskLayer):
    """Pools M tokens per task by learned soft assignment of positions, then lets the tokens of all tasks mix.

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head of the mixing layer.
        tokens: M [our choice, as all below].
        assign: softmax over ``positions``, or over tokens (``slot``), which then compete for positions.
        positions: add position information to each token.
        mix: ``all``, tokens of all tasks mix and every task reads them all; ``own``, a task's tokens are its own.
        norm: class of the norms.

    Raises:
        InputError: an option that does not exist, or no token.

    Example:
        >>> import torch
        >>> distiller = SemanticTokenDistiller(tasks=3, width=64, head_dim=32, tokens=16)
        >>> tokens = distiller(torch.rand(2, 3, 64, 8, 12), valid=None)
        >>> tuple(tokens.shape)  # one set of 3 x 16 tokens, which every task reads
        (2, 1, 48, 64)
    """

    per_task = "scale", "task_embedding"

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        tokens: int = 32,
        *,
        assign: str = "positions",
        positions: bool = False,
        mix: str = "all",
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        if tokens < 1:
            raise InputError(f"tokens={tokens}; give at least 1")
        self.tasks = tasks
        self.normalise_logits = choose("assign", assign, ASSIGNMENTS)
        self.sets = choose("mix", mix, {"all": 1, "own": tasks})
        self.norm = norm(width, tasks)
        self.assign = TaskLinear(tasks, width, tokens, bias=False)
        for rows in self.assign.weight.data:
            nn.init.orthogonal_(rows)
        self.scale = nn.Parameter(torch.full((tasks, tokens, 1), LOGIT_STD))
        self.value = TaskLinear(tasks, width, width)
        self.positions = TokenPositions(width) if positions else Unchanged()
        self.task_embedding = nn.Parameter(torch.randn(tasks, 1, width) * RESIDUAL_GAIN)
        self.mixer = TokenMixer(width, head_dim)
        self.token_norm = nn.LayerNorm(width)

    def assignment(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Return A, (B, T, M, N) in float32 or finer: where each token looks; sums to 1 over valid positions.

        Args:
            x_BTChw: normalised features.
            valid: (B, 1, h, w) or None.
        """
        logits = self.assign(x_BTChw)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) * self.scale[..., None]
        return self.normalise_logits(logits, valid)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to one set of tokens for all tasks, (B, 1, T * M, C), or to one set per task, (B, T, M, C)."""
        x = self.norm(x_BTChw)
        assignment = self.assignment(x, valid)
        pooled = assignment.to(x.dtype) @ x.flatten(3).mT  # mean of values = value of the mean
        where = torch.unflatten(assignment, 3, x.shape[3:])
        tokens = self.positions(self.value.tokens(pooled) + self.task_embedding, where, valid)
        batch, tasks, count, width = tokens.shape
        mixed = self.mixer(tokens.reshape(batch * self.sets, -1, width))
        return self.token_norm(mixed).view(batch, self.sets, tasks * count // self.sets, width)
