"""Preliminary decoders: the shared map to one feature map, and one early prediction, per task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.models.heads import OutputLayers
from mtlsi_net.models.layers.masking import zero_invalid
from mtlsi_net.models.layers.task_layers import ChannelNorm, ConvFeedForward


class TaskConvs(nn.Module):
    """A 3x3 convolution from the shared map to each task, then ``depth`` residual convolution blocks (our choice).

    Args:
        tasks: T.
        width: C.
        depth: number of residual blocks.
    """

    def __init__(self, tasks: int, width: int, depth: int = 1) -> None:
        super().__init__()
        self.tasks = tasks
        self.branch = nn.Conv2d(width, tasks * width, 3, padding=1, bias=False)
        self.norm = ChannelNorm(width, tasks)
        self.blocks = nn.ModuleList(ConvFeedForward(tasks, width) for _ in range(depth))

    def forward(self, shared_BChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, C, h, w) to (B, T, C, h, w); ``valid`` is (B, 1, h, w) or None."""
        x = torch.unflatten(self.branch(zero_invalid(shared_BChw, valid)), 1, (self.tasks, -1))
        x = F.gelu(self.norm(x))
        for block in self.blocks:
            x = block(x, valid)
        return x


class PreliminaryDecoders(nn.Module):
    """Task features F_t and preliminary predictions P_t [paper: that they exist; what they are made of is our choice].

    Args:
        task_channels: task -> K.
        width: C.
        depth: residual convolution blocks per task.
    """

    def __init__(self, task_channels: Mapping[str, int], width: int, depth: int = 1) -> None:
        super().__init__()
        self.decoders = TaskConvs(len(task_channels), width, depth)
        self.norm = ChannelNorm(width, len(task_channels))
        self.output = OutputLayers(task_channels, width)

    def forward(self, shared_BChw: Tensor, valid: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Map (B, C, h, w) to features (B, T, C, h, w) and task -> (B, K, h, w)."""
        features = self.decoders(shared_BChw, valid)
        return features, self.output(self.norm(features))
