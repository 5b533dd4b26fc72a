"""Semantic Token Distiller (STD): task features to few tokens that carry what all tasks know.

Paper: compact semantic tokens with cross-task knowledge. How they are made is our choice.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.models.layers.masking import align
from mtlsi_net.models.layers.task_layers import RESIDUAL_GAIN, ChannelNorm, TaskLinear, count_heads

LOGIT_STD = 2.5
"""Initial spread of the assignment logits: much less, and all tokens start as the same mean of the image."""


class TokenMixer(nn.Module):
    """One pre-norm transformer layer over (B, L, C) tokens; its cost does not depend on the image.

    Args:
        width: C.
        head_dim: channels of a head.
    """

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
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class SemanticTokenDistiller(nn.Module):
    """Pools M tokens per task by learned soft assignment of positions, then lets the tokens of all tasks mix.

    Args:
        tasks: T.
        width: C.
        head_dim: channels of a head of the mixing layer.
        tokens: M.
    """

    def __init__(self, tasks: int, width: int, head_dim: int, tokens: int = 32) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, tasks)
        self.assign = TaskLinear(tasks, width, tokens, bias=False)
        for rows in self.assign.weight.data:
            nn.init.orthogonal_(rows)
        self.scale = nn.Parameter(torch.full((tasks, tokens, 1), LOGIT_STD))
        self.value = TaskLinear(tasks, width, width)
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
        if valid is not None:
            logits = logits.masked_fill(~align(valid, logits), torch.finfo(logits.dtype).min)
        return torch.softmax(logits.flatten(3), -1)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to one set of tokens for all tasks, (B, T * M, C)."""
        x = self.norm(x_BTChw)
        pooled = self.assignment(x, valid).to(x.dtype) @ x.flatten(3).mT  # mean of values = value of the mean
        tokens = self.value.tokens(pooled) + self.task_embedding
        out: Tensor = self.token_norm(self.mixer(tokens.flatten(1, 2)))
        return out
