"""A variant of BridgeNet (Zhang et al., 2023; TPAMI 2025): tasks interact through features between encoder and tasks.

    image -> encoder -> deepest map -> preliminary decoders -> TPP -+-> TFR ----+-> TFR ----+-> TFR -> heads -> final
                |                              |                    v    ^      v    ^      v    ^
                |                             aux                  BFE --+     BFE --+     BFE --+  bridge features
                |                                                   ^           ^           ^
                +------ shallower maps -----------------------------+-----------+-----------+

TPP, task pattern propagation: all tasks' features read each other, so that what follows starts from strong ones. BFE,
bridge feature extractor: an encoder map reads all tasks' features and becomes the bridge feature of its level. TFR,
task-feature refiner: every task takes from that one feature what it needs, instead of from every other task.

The three modules and their order are the paper's; its abstract and summaries were read, but not its full text or its
code. It is called a variant because the inner form of the modules (attention to pooled positions, gates, residual
blocks), the levels and all sizes are our choice, and no published size of it could be checked.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import DenseNetwork, StageFactory, crop
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import UpsampleHead
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_pool, masked_resize, valid_at
from mtlsi_net.models.layers.pooled_attention import PooledAttention
from mtlsi_net.models.layers.task_layers import (
    RESIDUAL_GAIN,
    ChannelNorm,
    ConvFeedForward,
    NormLayer,
    TaskLinear,
)
from mtlsi_net.models.neck import LevelNeck
from mtlsi_net.models.preliminary import Activation, PreliminaryDecoders

FACTORS = (1, 1, 2, 2)
"""Strides of the levels over that of the finest, from the shallowest encoder map to the deepest."""
COARSEST = 4
"""Stride of the pooled positions over that of the finest level."""


class PatternPropagation(Recomputed):
    """TPP: every position of every task reads all tasks' pooled positions; all tasks share the weights.

    Args:
        cell: side of the cells that are pooled.
    """

    def __init__(self, tasks: int, width: int, heads: int, cell: int, norm: NormLayer = ChannelNorm) -> None:
        super().__init__()
        self.cell = cell
        self.norm = norm(width, tasks)
        self.attention = PooledAttention(width, heads)
        self.feed_forward = ConvFeedForward(tasks, width, norm=norm, weight_sets=1)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape."""
        y = self.norm(x_BTChw)
        sources = masked_pool(y, self.cell, valid)
        x = x_BTChw + self.attention(y, sources, valid_at(valid, sources))
        return self.feed_forward(x, valid)


class BridgeExtractor(Recomputed):
    """BFE: an encoder map reads all tasks' pooled features.

    Args:
        cell: side of the cells that are pooled.
    """

    def __init__(self, tasks: int, width: int, heads: int, cell: int, norm: NormLayer = ChannelNorm) -> None:
        super().__init__()
        self.cell = cell
        self.generic_norm, self.task_norm = norm(width, 1), norm(width, tasks)
        self.attention = PooledAttention(width, heads)
        self.feed_forward = ConvFeedForward(1, width, norm=norm)
        self.norm = norm(width, 1)

    def forward(self, level_BChw: Tensor, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Return the bridge feature (B, 1, C, h, w), normalised, from an encoder map and task features of its size."""
        generic = level_BChw[:, None]
        sources = masked_pool(self.task_norm(x_BTChw), self.cell, valid)
        read = self.attention(self.generic_norm(generic), sources, valid_at(valid, sources))
        return self.norm(self.feed_forward(generic + read, valid))


class TaskRefiner(Recomputed):
    """TFR: every task adds a gated part of the bridge feature to its own."""

    def __init__(self, tasks: int, width: int, norm: NormLayer = ChannelNorm) -> None:
        super().__init__()
        self.tasks = tasks
        self.norm = norm(width, tasks)
        self.gate = TaskLinear(tasks, 2 * width, width)
        self.take = TaskLinear(tasks, width, width, gain=RESIDUAL_GAIN)
        self.feed_forward = ConvFeedForward(tasks, width, norm=norm)

    def forward(self, x_BTChw: Tensor, bridge_B1Chw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape."""
        bridge = bridge_B1Chw.expand(-1, self.tasks, -1, -1, -1)
        gate = self.gate(torch.cat([self.norm(x_BTChw), bridge], 2)).sigmoid()
        return self.feed_forward(x_BTChw + gate * self.take(bridge), valid)


class BridgeNetVariant(DenseNetwork):
    """Interaction of tasks through one bridge feature on each of three levels.

    Args:
        stride: of the finest level, where the heads start.
        heads: of every attention.
        others: as in ``DenseNetwork``.
    """

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        *,
        width: int = 320,
        stride: int = 8,
        heads: int = 4,
        preliminary: StageFactory = PreliminaryDecoders,
        head: StageFactory = UpsampleHead,
        norm: str = "layer",
        activations: Mapping[str, Activation] | None = None,
        mask_padding: bool = True,
    ) -> None:
        super().__init__(encoder, task_channels, width, COARSEST * stride, norm=norm, mask_padding=mask_padding)
        layer, tasks = self.norm_layer, len(task_channels)
        self.aux_strides = [FACTORS[-1] * stride]
        self.neck = LevelNeck(encoder.specs, [factor * stride for factor in FACTORS], [width] * len(FACTORS))
        self.preliminary = preliminary(task_channels=task_channels, width=width, activations=activations, norm=layer)
        self.propagate = PatternPropagation(tasks, width, heads, COARSEST // FACTORS[-1], layer)
        self.bridges = nn.ModuleList(
            BridgeExtractor(tasks, width, heads, COARSEST // factor, layer) for factor in reversed(FACTORS[:-1])
        )
        self.refiners = nn.ModuleList(TaskRefiner(tasks, width, layer) for _ in FACTORS[:-1])
        self.head = head(task_channels=task_channels, width=width, norm=layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), aux (B, K, h, w) at twice the finest level's stride."""
        maps, pixels, canvas_size = self.encode(image, valid)
        *levels, deep = self.neck(maps, pixels)
        features, aux = self.preliminary([deep], pixels)
        features = self.propagate(features, valid_at(pixels, deep))
        for level, extract, refine in zip(reversed(levels), self.bridges, self.refiners, strict=True):
            positions = valid_at(pixels, level)
            features = masked_resize(features, (level.shape[-2], level.shape[-1]), positions)
            features = refine(features, extract(level, features, positions), positions)
        final = self.head(features, positions, canvas_size)
        return Prediction(
            crop(final, image.shape[-2:]), [crop(early, image.shape[-2:], self.aux_strides[0]) for early in aux]
        )
