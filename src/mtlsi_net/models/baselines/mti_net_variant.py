"""A variant of MTI-Net (Vandenhende et al., ECCV 2020): tasks inform each other at every scale.

    image -> encoder -> 1/32 -> initial decoders -> distillation --+
                     |              |   propagation                |
                     -> 1/16 -> initial decoders -> distillation --+
                     |              |   propagation                +-> x1/4, side by side -> 1x1 -> heads -> final
                     -> 1/8  -> initial decoders -> distillation --+
                     |              |   propagation                |
                     -> 1/4  -> initial decoders -> distillation --+
                                    v
                                   aux, one set per scale

The paper's: initial predictions at four scales, all of them supervised; propagation of a scale's task features to the
next finer one (all tasks' features mixed by an attention over tasks, then passed to each task through channel gates);
distillation between all pairs of tasks at every scale through spatial attention; all scales side by side for the heads.

It is called a variant because no size of it was published for these backbones, so that none can be checked. Ours, written
without sight of its code: all sizes; the pyramid, which a plain transformer's maps, all at 1/16, are resized to; initial
decoders of a 3x3 convolution and a residual block; 1x1 messages; norms over channels; masks of padding.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import DenseNetwork, crop
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import OutputLayers, PlainHead
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_mean, masked_resize, valid_at
from mtlsi_net.models.layers.subset import CrossTaskLayer
from mtlsi_net.models.layers.task_layers import (
    RESIDUAL_GAIN,
    ChannelNorm,
    ConvFeedForward,
    ConvNormAct,
    NormLayer,
    TaskLinear,
    Unchanged,
)
from mtlsi_net.models.neck import LevelNeck
from mtlsi_net.models.preliminary import Activation

SCALES = 4


class InitialDecoders(Recomputed):
    """A scale's task features and predictions, from its encoder map and the features of the coarser scale.

    Args:
        inputs: C, or 2 C with a coarser scale.
    """

    def __init__(
        self, task_channels: Mapping[str, int], width: int, inputs: int, norm: NormLayer = ChannelNorm
    ) -> None:
        super().__init__()
        self.tasks = len(task_channels)
        self.enter = ConvNormAct(self.tasks, inputs, width, norm=norm)
        self.block = ConvFeedForward(self.tasks, width, norm=norm)
        self.norm = norm(width, self.tasks)
        self.output = OutputLayers(task_channels, width)

    def forward(
        self, level_BChw: Tensor, coarser: list[Tensor], valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return features (B, T, C, h, w) and task -> (B, K, h, w).

        Args:
            level_BChw: the encoder's map.
            coarser: propagated features (B, T, C, h / 2, w / 2) of the coarser scale, or nothing.
            valid: (B, 1, h, w) or None.
        """
        size = level_BChw.shape[-2], level_BChw.shape[-1]
        resized = [masked_resize(x, size, valid) for x in coarser]
        shared = level_BChw[:, None].expand(-1, self.tasks, -1, -1, -1)
        x = self.block(self.enter(torch.cat([shared, *resized], 2), valid), valid)
        return x, self.output(self.norm(x))


class FeaturePropagation(Recomputed, CrossTaskLayer):
    """Features passed to the next finer scale: every task's features, plus gated channels of a map common to all tasks."""

    def __init__(self, tasks: int, width: int, norm: NormLayer = ChannelNorm) -> None:
        super().__init__()
        self.tasks = tasks
        self.harmonise = ConvNormAct(1, tasks * width, width, 1, norm=norm)
        self.weigh = TaskLinear(1, width, tasks * width)
        self.common = ConvNormAct(1, tasks * width, width, 1, norm=norm)
        self.squeeze = TaskLinear(tasks, width, width // 4)
        self.excite = TaskLinear(tasks, width // 4, width)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape."""
        together = x_BTChw.flatten(1, 2)[:, None]
        weights = self.weigh(self.harmonise(together, valid)).view(x_BTChw.shape).softmax(1)
        common = self.common((weights * x_BTChw).flatten(1, 2)[:, None], valid)
        pooled = masked_mean(common, valid).expand(-1, self.tasks, -1)[:, :, None]
        gates = self.excite.tokens(F.relu(self.squeeze.tokens(pooled))).sigmoid()
        return x_BTChw + gates[:, :, 0, :, None, None] * common


class Distillation(Recomputed, CrossTaskLayer):
    """x_t + sum over s != t of sigmoid(A_ts x_s) * M_ts x_s: gated messages of all other tasks.

    Args:
        tasks: T, two or more.
    """

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.others = tasks - 1
        self.attend = TaskLinear(tasks, width, self.others * width)
        self.message = TaskLinear(tasks, width, self.others * width, bias=False, gain=RESIDUAL_GAIN)
        sources = [[s for s in range(tasks) if s != t] for t in range(tasks)]
        slots = [
            [t - (t > s) for s in row] for t, row in enumerate(sources)
        ]  # the slot of source s with its message to t
        self.register_buffer("sources", torch.tensor(sources), persistent=False)
        self.register_buffer("slots", torch.tensor(slots), persistent=False)
        self.sources: Tensor
        self.slots: Tensor

    def forward(self, x_BTChw: Tensor) -> Tensor:
        """Map (B, T, C, h, w) to the same shape."""
        messages = self.attend(x_BTChw).sigmoid() * self.message(x_BTChw)
        messages = torch.unflatten(messages, 2, (self.others, -1))  # (B, source, slot, C, h, w)
        return x_BTChw + messages[:, self.sources, self.slots].sum(2)


class MTINetVariant(DenseNetwork):
    """Initial predictions, propagation and distillation at four scales.

    Args:
        stride: of the finest scale.
        others: as in ``DenseNetwork``.
    """

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        *,
        width: int = 256,
        stride: int = 4,
        norm: str = "layer",
        activations: Mapping[str, Activation] | None = None,  # noqa: ARG002 - what every network is offered
        mask_padding: bool = True,
    ) -> None:
        strides = [stride * 2**i for i in range(SCALES)]
        super().__init__(encoder, task_channels, width, strides[-1], norm=norm, mask_padding=mask_padding)
        layer, tasks = self.norm_layer, len(task_channels)
        self.aux_strides = strides
        self.neck = LevelNeck(encoder.specs, strides, [width] * SCALES)
        inputs = [width, *[2 * width] * (SCALES - 1)]
        self.initial = nn.ModuleList(InitialDecoders(task_channels, width, k, layer) for k in inputs)
        steps = [FeaturePropagation(tasks, width, layer) for _ in range(SCALES - 1)]
        self.propagate = nn.ModuleList([*steps, Unchanged()])
        self.distil = nn.ModuleList(Distillation(tasks, width) if tasks > 1 else Unchanged() for _ in range(SCALES))
        self.merge = TaskLinear(tasks, SCALES * width, width)
        self.head = PlainHead(task_channels, width, layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), aux (B, K, h, w) of four scales, the coarsest first."""
        maps, pixels, canvas_size = self.encode(image, valid)
        levels = self.neck(maps, pixels)
        finest = levels[0].shape[-2], levels[0].shape[-1]
        coarser: list[Tensor] = []
        distilled, aux = [], []
        for level, stride, initial, propagate, distil in zip(
            reversed(levels), reversed(self.aux_strides), self.initial, self.propagate, self.distil, strict=True
        ):
            positions = valid_at(pixels, level)
            features, predictions = initial(level, coarser, positions)
            aux.append(crop(predictions, image.shape[-2:], stride))
            coarser = [propagate(features, positions)]
            distilled.append(masked_resize(distil(features), finest, positions))
        final = self.head(self.merge(torch.cat(distilled, 2)), positions, canvas_size)
        return Prediction(crop(final, image.shape[-2:]), aux)
