"""InvPT (Ye and Xu, ECCV 2022): softmax attention over all tasks' positions, at rising resolution.

    image -> encoder -> map 4 -> preliminary decoders --> stage 1/16 ==> stage 1/8 ==> stage 1/4
                |                        |                  ^   |         ^   |         ^   |
                |                        v                  |   |         |   |         |   |
                |                       aux               map 3 |       map 2 |       map 1 |
                |                                           |   |         |   |         |   |
                +-------------------------------------------+---|---------+---|---------+   |
                                                                +-------------+-------------+-> 3x3 -> heads -> final
    ==> features and attention logits

The paper's: preliminary decoders whose predictions come back into their features; one sequence of all tasks' positions;
up-transformer blocks that double resolution and halve channels; queries from a strided convolution, keys and values
pooled to one coarse grid at every stage; attention logits handed on to the next stage; encoder maps added at every
stage; all stages' features for the heads.

Ours, written without sight of its code: all sizes, how the stages come together (side by side on the finest grid, then a
3x3 convolution), norms over channels instead of BatchNorm, GELU, feedback of activated predictions, and masks of
padding. With them the parameters are within 2 % of those published for ViT-L, the operations within 5 %
(experiments/model_sizes).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import DenseNetwork, crop
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import OutputLayers, PlainHead
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_pool, masked_resize, valid_at
from mtlsi_net.models.layers.pooled_attention import PooledAttention
from mtlsi_net.models.layers.task_layers import (
    ChannelNorm,
    ConvFeedForward,
    ConvNormAct,
    NormLayer,
    TaskConv,
    TaskLinear,
    Unchanged,
)
from mtlsi_net.models.neck import LevelNeck
from mtlsi_net.models.preliminary import Activation, Feedback

STAGES = 3
COARSEST = 2**STAGES
"""Positions of the last stage in a cell of keys and values, per side."""


class ConvPreliminary(Recomputed):
    """Two 3x3 convolutions and a prediction per task; the prediction is added to the reduced features.

    Args:
        in_channels: of the shared map, kept by the convolutions.
        activations: task -> what makes raw outputs into values for the feedback.
    """

    def __init__(
        self,
        task_channels: Mapping[str, int],
        in_channels: int,
        width: int,
        activations: Mapping[str, Activation],
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        self.tasks = len(task_channels)
        self.convs = nn.ModuleList(ConvNormAct(self.tasks, in_channels, in_channels, norm=norm) for _ in range(2))
        self.output = OutputLayers(task_channels, in_channels)
        self.reduce = TaskLinear(self.tasks, in_channels, width)
        self.feedback = Feedback(task_channels, width, activations)

    def forward(self, shared_BChw: Tensor, valid: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Map (B, C', h, w) to features (B, T, C, h, w) and task -> (B, K, h, w)."""
        x = shared_BChw[:, None].expand(-1, self.tasks, -1, -1, -1)
        for conv in self.convs:
            x = conv(x, valid)
        predictions = self.output(x)
        return self.feedback(self.reduce(x), predictions), predictions


class AttentionMessage(nn.Module):
    """Weighted sum of a stage's logits and those of the previous stage, whose queries are twice as far apart."""

    def __init__(self, heads: int, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.own = nn.Parameter(torch.ones(heads))
        self.handed_on = nn.Parameter(torch.full((heads,), 0.5))

    def forward(self, logits: Tensor, message: Tensor, size: tuple[int, int], valid: Tensor | None) -> Tensor:
        """Return new logits (B, heads, T * N, L).

        Args:
            logits: (B, heads, T * N, L) of queries on a grid of ``size``.
            message: (B, heads, T * N / 4, L) of queries on half that grid.
            size: (h, w), N = h * w.
            valid: (B, 1, h, w) or None.
        """
        maps = torch.unflatten(message, 2, (self.tasks, size[0] // 2, size[1] // 2)).movedim(-1, 3)
        fine = masked_resize(maps.flatten(1, 3), size, valid)
        fine = torch.unflatten(fine, 1, maps.shape[1:4]).flatten(4).mT.flatten(2, 3)
        return self.own[:, None, None] * logits + self.handed_on[:, None, None] * fine


class UpTransformerStage(Recomputed):
    """Raises the resolution, adds an encoder map, and lets all positions of all tasks read each other.

    Args:
        cell: side of the cells whose means are keys and values.
        before: channels of the stage before; None in the first, which starts from C channels and gets no message.
    """

    def __init__(
        self, tasks: int, width: int, heads: int, cell: int, before: int | None, norm: NormLayer = ChannelNorm
    ) -> None:
        super().__init__()
        self.cell = cell
        self.enter = Unchanged() if before is None else ConvNormAct(tasks, before, width, norm=norm)
        self.merge = ConvNormAct(1, width, width, norm=norm)
        self.norm = norm(width, tasks)
        self.strided = TaskConv(1, width, width, 3, stride=2, depthwise=True)
        self.attention = PooledAttention(width, heads)
        self.message = Unchanged() if before is None else AttentionMessage(heads, tasks)
        self.feed_forward = ConvFeedForward(tasks, width, 4 * width, norm=norm, weight_sets=1)

    def forward(
        self, x_BTChw: Tensor, level_BChw: Tensor, message: Tensor | None, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return features (B, T, C, h, w) at the size of ``level_BChw``, and attention logits for the next stage.

        Args:
            x_BTChw: (B, T, C', h', w').
            level_BChw: the encoder map of this stage.
            message: logits of the stage before; None in the first.
            valid: (B, 1, h, w) or None.
        """
        size = level_BChw.shape[-2], level_BChw.shape[-1]
        x = self.enter(masked_resize(x_BTChw, size, valid), valid) + self.merge(level_BChw[:, None], valid)
        y = self.norm(x)
        queries, sources = self.strided(y, valid), masked_pool(y, self.cell, valid)
        logits = self.attention.logits(queries, sources)
        logits = self.message(logits, message, queries.shape[-2:], valid_at(valid, queries))
        read = self.attention.read(logits, sources, valid_at(valid, sources), queries)
        x = x + masked_resize(read, size, valid_at(valid, queries))
        return self.feed_forward(x, valid), logits


class InvPTNet(DenseNetwork):
    """The quadratic peer: every position of every task attends to all tasks' positions, pooled.

    Args:
        width: C of the first stage; C / 2 and C / 4 follow, and 2 C in the preliminary decoders.
        stride: of the last stage's grid; 2 and 4 times this before.
        heads: of every stage's attention.
        others: as in ``DenseNetwork``.

    Raises:
        InputError: a width that cannot be halved twice.
    """

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        *,
        width: int = 512,
        stride: int = 4,
        heads: int = 2,
        norm: str = "layer",
        activations: Mapping[str, Activation] | None = None,
        mask_padding: bool = True,
    ) -> None:
        if width % 4:
            raise InputError(f"width={width} cannot be halved twice; use a multiple of 4")
        super().__init__(encoder, task_channels, width, COARSEST * stride, norm=norm, mask_padding=mask_padding)
        layer, tasks = self.norm_layer, len(task_channels)
        widths = [width // 2**i for i in range(STAGES)]
        strides = [stride * 2 ** (STAGES - 1 - i) for i in range(STAGES)]
        self.neck = LevelNeck(encoder.specs, [*reversed(strides), strides[0]], [*reversed(widths), 2 * width])
        self.preliminary = ConvPreliminary(task_channels, 2 * width, width, activations or {}, layer)
        self.stages = nn.ModuleList(
            UpTransformerStage(tasks, here, heads, COARSEST * stride // step, before, layer)
            for before, here, step in zip([None, *widths[:-1]], widths, strides, strict=True)
        )
        self.gather = ConvNormAct(tasks, sum(widths), widths[-1], norm=layer)
        self.head = PlainHead(task_channels, widths[-1], layer)
        self.aux_strides = strides[:1]

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), aux (B, K, h, w) at the first stage's stride."""
        maps, pixels, canvas_size = self.encode(image, valid)
        *levels, deep = self.neck(maps, pixels)
        features, aux = self.preliminary(deep, valid_at(pixels, deep))
        finest = levels[0].shape[-2], levels[0].shape[-1]
        gathered, message = [], None
        for stage, level in zip(self.stages, reversed(levels), strict=True):
            positions = valid_at(pixels, level)
            features, message = stage(features, level, message, positions)
            gathered.append(masked_resize(features, finest, positions))
        final = self.head(self.gather(torch.cat(gathered, 2), positions), positions, canvas_size)
        return Prediction(crop(final, image.shape[-2:]), [crop(aux, image.shape[-2:], self.aux_strides[0])])
