"""Replacements for ablated stages: the identity, or plain convolutions with the same number of parameters.

Null objects have the signature of the stage, so that networks need not check whether a stage exists. A stage without its
parameters is also a smaller network; the matched controls separate the two.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mtlsi_net.core.errors import InputError
from mtlsi_net.models.layers.masking import align, valid_coordinates
from mtlsi_net.models.layers.subset import PerTaskStage
from mtlsi_net.models.layers.task_layers import RESIDUAL_GAIN, ChannelNorm, ConvFeedForward, NormLayer
from mtlsi_net.models.semantic_decoder import TokenAttention

Stage = Callable[..., nn.Module]


OtherStages = Stage | Mapping[str, Stage] | None
"""Further stages that a control replaces: one, several by name, or none."""


def count_parameters(stage: Stage, **sizes: int) -> int:
    """Return the number of parameters of a stage's factory for these sizes, without allocating any."""
    with torch.device("meta"):
        return sum(p.numel() for p in stage(**sizes).parameters())


class IdentityStage(PerTaskStage):
    """Identity stage: features (B, T, C, h, w) are returned unchanged, other arguments are ignored."""

    def __init__(
        self,
        tasks: int,  # noqa: ARG002 - a stage's signature, as below
        width: int,  # noqa: ARG002
        head_dim: int,  # noqa: ARG002
        norm: NormLayer = ChannelNorm,  # noqa: ARG002
        token_width: int | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__()

    def forward(self, x_BTChw: Tensor, *_: Tensor | None) -> Tensor:
        """Return the features."""
        return x_BTChw


class MatchedConvs(PerTaskStage):
    """A residual convolution block per task with as many parameters as the stage it replaces: local, no interaction.

    Args:
        replaces: factory of the stage replaced, called with tasks, width, head_dim.
        also_replaces: factories of other stages replaced, at the width of the tokens.
        besides: factory of a module used together with the convolutions; its parameters count.
        token_width: channels of the tokens that the first stage replaced and ``besides`` read; None: C.

    Raises:
        InputError: the stage is so small that no number of channels comes within 2 % of its parameters.
    """

    TOLERANCE = 0.02

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        replaces: Stage,
        also_replaces: OtherStages = None,
        besides: Stage | None = None,
        norm: NormLayer = ChannelNorm,
        token_width: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"tasks": tasks, "width": width, "head_dim": head_dim}
        reads = {} if token_width is None else {"token_width": token_width}
        goal = count_parameters(replaces, **sizes, **reads)
        others = also_replaces if isinstance(also_replaces, Mapping) else {"": also_replaces}
        for other in filter(None, others.values()):
            goal += count_parameters(other, **{**sizes, "width": token_width or width})
        taken = 0 if besides is None else count_parameters(besides, **sizes, **reads)
        fixed, per_channel = 3 * tasks * width, tasks * (2 * width + 10)  # of a ConvFeedForward
        hidden = max(1, round((goal - taken - fixed) / per_channel))
        made = taken + fixed + per_channel * hidden
        if abs(made - goal) > self.TOLERANCE * goal:
            raise InputError(
                f"convolutions cannot match {goal} parameters (nearest {made}): the stage that they replace is "
                "too small at this width; use the identity control, or a larger width"
            )
        self.block = ConvFeedForward(tasks, width, hidden, norm=norm)

    def forward(self, x_BTChw: Tensor, *arguments: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape; the last argument is the validity map (B, 1, h, w) or None."""
        return self.block(x_BTChw, arguments[-1])


# -- replacements of the distiller------------------------------------------------------------------------------------


class NoTokens(IdentityStage):
    """Empty token set, for decoders that read no tokens."""

    def forward(self, x_BTChw: Tensor, *_: Tensor | None) -> Tensor:
        """Return an empty set, (B, 1, 0, C)."""
        return x_BTChw.new_zeros(x_BTChw.shape[0], 1, 0, x_BTChw.shape[2])


class AllPositions(nn.Module):
    """Tokens without distillation: every position of every task is a token. Padding becomes zeros."""

    def __init__(self, tasks: int, width: int, head_dim: int, norm: NormLayer = ChannelNorm) -> None:  # noqa: ARG002
        super().__init__()
        self.norm = norm(width, tasks)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to (B, 1, T * N, C)."""
        x = self.norm(x_BTChw)
        if valid is not None:
            x = x * align(valid, x).to(x.dtype)
        return x.flatten(3).transpose(2, 3).flatten(1, 2)[:, None]


class GridTokens(nn.Module):
    """Per-task means over a grid of M cells on the valid part: tokens without learned assignment or mixing.

    Args:
        tokens: M; the grid's aspect ratio is as close to 3:4 as M allows.
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,  # noqa: ARG002 - the distillers' signature
        tokens: int = 32,
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        rows = min(
            (r for r in range(1, tokens + 1) if tokens % r == 0), key=lambda r: abs(r - math.sqrt(tokens * 0.75))
        )
        self.grid = rows, tokens // rows
        self.norm = norm(width, tasks)

    def assignment(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Return each cell's shares of positions, (B or 1, 1, M, N); zeros for a cell without any."""
        inside = []
        for at, count in zip(valid_coordinates(valid, x_BTChw.shape[-2:]), self.grid, strict=True):
            cells = torch.arange(count, device=at.device)[:, None]
            inside.append((at.mul(count).floor().long()[:, None] == cells).to(x_BTChw))  # (B, cells, h or w)
        rows, columns = inside
        member = torch.einsum("bih,bjw->bijhw", rows, columns.to(rows)).flatten(3).flatten(1, 2)
        return (member / member.sum(-1, keepdim=True).clamp(min=1))[:, None].to(x_BTChw)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to (B, 1, T * M, C)."""
        x = self.norm(x_BTChw)
        means = self.assignment(x, valid) @ x.flatten(3).mT
        return means.flatten(1, 2)[:, None]


class MatchedTokens(nn.Module):
    """Plain tokens after convolutions, with as many parameters as the distiller they replace.

    Args:
        replaces: factory of the distiller replaced.
        pooling: factory of the plain tokens.
    """

    def __init__(
        self, tasks: int, width: int, head_dim: int, replaces: Stage, pooling: Stage, norm: NormLayer = ChannelNorm
    ) -> None:
        super().__init__()
        self.convs = MatchedConvs(tasks, width, head_dim, replaces, besides=pooling, norm=norm)
        self.pooling = pooling(tasks=tasks, width=width, head_dim=head_dim, norm=norm)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to tokens (B, 1, L, C)."""
        return self.pooling(self.convs(x_BTChw, valid), valid)


# -- replacements of the decoder--------------------------------------------------------------------------------------


class TokenReader(PerTaskStage):
    """Adds to each position what it reads from the tokens by attention: the simplest use of tokens."""

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        norm: NormLayer = ChannelNorm,
        token_width: int | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm(width, tasks)
        self.read = TokenAttention(tasks, width, head_dim, token_width)

    def forward(self, x_BTChw: Tensor, tokens_BGLC: Tensor, valid: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map (B, T, C, h, w) and (B, 1 or T, L, C) to (B, T, C, h, w)."""
        read = self.read(self.norm.tokens(x_BTChw), tokens_BGLC)
        return x_BTChw + RESIDUAL_GAIN * read.movedim(-1, 2)


class PartialDecoderWithConvs(PerTaskStage):
    """A part of a decoder, followed by convolutions with as many parameters as the omitted part.

    Args:
        part: factory of the part that is kept; reads features, tokens and the validity map, per task.
        replaces: factory of the decoder replaced.
        also_replaces: factories of other stages replaced: the distiller and the readback, where nothing reads tokens.
        token_width: channels of the tokens; None: C.
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        head_dim: int,
        part: Stage,
        replaces: Stage,
        also_replaces: OtherStages = None,
        norm: NormLayer = ChannelNorm,
        token_width: int | None = None,
    ) -> None:
        super().__init__()
        reads = {} if token_width is None else {"token_width": token_width}
        self.part = part(tasks=tasks, width=width, head_dim=head_dim, norm=norm, **reads)
        self.convs = MatchedConvs(
            tasks, width, head_dim, replaces, also_replaces, besides=part, norm=norm, token_width=token_width
        )

    def forward(self, x_BTChw: Tensor, tokens_BGLC: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) and (B, 1 or T, L, C) to (B, T, C, h, w)."""
        return self.convs(self.part(x_BTChw, tokens_BGLC, valid), valid)
