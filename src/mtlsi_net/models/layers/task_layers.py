"""Layers with one set of weights per task, run for all tasks at once on (B, T, C, h, w)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import zero_invalid
from mtlsi_net.models.layers.subset import TaskLayer

MIN_HEAD_DIM = 32
RESIDUAL_GAIN = 0.2
"""Scale of the last layer of a residual branch: small at the start, never zero, so that gradients flow at once."""


def count_heads(width: int, head_dim: int) -> int:
    """Return width / head_dim.

    Raises:
        InputError: heads of fewer than 32 channels (nearly dead queries have exploding gradients), or unequal heads.
    """
    if head_dim < MIN_HEAD_DIM:
        raise InputError(f"head_dim={head_dim} is too small for linear attention; use {MIN_HEAD_DIM} or more")
    if width % head_dim:
        raise InputError(f"width={width} is not a multiple of head_dim={head_dim}; change one of them")
    return width // head_dim


class TaskLinear(TaskLayer):
    """A linear layer over channels per task; a 1x1 convolution when called on features.

    Args:
        bias: whether to add one; a key of softmax attention needs none.
        gain: standard deviation of the initial outputs for inputs of 1.
    """

    per_task = "weight", "bias"

    def __init__(
        self, tasks: int, in_channels: int, out_channels: int, *, bias: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.tasks = tasks
        std = gain / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.randn(tasks, out_channels, in_channels) * std)
        self.bias = nn.Parameter(torch.zeros(tasks, out_channels)) if bias else None

    def forward(self, x_BTChw: Tensor) -> Tensor:
        """Map (B, T, C, h, w) to (B, T, O, h, w)."""
        y = self.weight @ x_BTChw.flatten(3)
        if self.bias is not None:
            y = y + self.bias[..., None].to(y.dtype)
        return torch.unflatten(y, 3, x_BTChw.shape[3:])

    def tokens(self, x: Tensor) -> Tensor:
        """Map (B, T, ..., C) to (B, T, ..., O)."""
        y = x.flatten(2, -2) @ self.weight.mT
        if self.bias is not None:
            y = y + self.bias[:, None].to(y.dtype)
        return torch.unflatten(y, 2, x.shape[2:-1])


class TaskConv(TaskLayer):
    """A k x k convolution per task, with zeros on padded positions.

    Args:
        kernel_size: odd k.
        stride: of the outputs' positions.
        depthwise: one filter per channel (O must then equal C).
        gain: standard deviation of the initial outputs for inputs of 1.
    """

    per_task = ("weight",)

    def __init__(
        self,
        tasks: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size={kernel_size} of a task convolution is even; use an odd one")
        self.tasks, self.groups, self.stride = tasks, in_channels if depthwise else 1, stride
        inputs = in_channels // self.groups
        std = gain / math.sqrt(inputs * kernel_size**2)
        self.weight = nn.Parameter(torch.randn(tasks, out_channels, inputs, kernel_size, kernel_size) * std)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to (B, T, O, h / stride, w / stride); ``valid`` is (B, 1, h, w) or None."""
        sets, channels, _, size, _ = self.weight.shape
        x = zero_invalid(x_BTChw, valid)
        if size == self.stride == 1 and self.groups > 1:  # libraries loop over groups; this is a single product
            return x * self.weight.flatten(2)[..., None].to(x.dtype)
        batch, tasks, _, height, width = x.shape
        x = x.reshape(batch * tasks // sets, -1, height, width)  # shared weights: tasks are folded into the batch
        y = F.conv2d(x, self.weight.flatten(0, 1), stride=self.stride, padding=size // 2, groups=sets * self.groups)
        return y.reshape(batch, tasks, channels, *y.shape[-2:])


class ChannelNorm(TaskLayer):
    """LayerNorm over channels at each position: no statistic crosses positions, so padding cannot leak.

    Args:
        tasks: T for (B, T, C, h, w) with weights per task; None for (B, C, h, w).
    """

    per_task = "weight", "bias"

    def __init__(self, channels: int, tasks: int | None = None) -> None:
        super().__init__()
        self.tasks = tasks or 1
        shape = (channels,) if tasks is None else (tasks, 1, 1, channels)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def tokens(self, x: Tensor) -> Tensor:
        """Return the normalised features with channels last, (B, ..., h, w, C)."""
        x = x.movedim(-3, -1)
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:], eps=1e-6), self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features in the shape of ``x``."""
        return self.tokens(x).movedim(-1, -3)


class BatchNorm(TaskLayer):
    """BatchNorm with the interface of ``ChannelNorm``.

    Its statistics are over all positions, padded ones included: a hidden path between positions and images.
    """

    per_task = "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"

    def __init__(self, channels: int, tasks: int | None = None) -> None:
        super().__init__()
        self.tasks = tasks or 1
        self.norm = nn.BatchNorm2d(channels * self.tasks)

    def tokens(self, x: Tensor) -> Tensor:
        """Return the normalised features with channels last, (B, ..., h, w, C)."""
        return self(x).movedim(-3, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features in the shape of ``x``."""
        out: Tensor = self.norm(x.flatten(1, -3))
        return out.reshape(x.shape)


NormLayer = type[ChannelNorm] | type[BatchNorm]
NORMS: dict[str, NormLayer] = {"layer": ChannelNorm, "batch": BatchNorm}


class Unchanged(nn.Module):
    """Placeholder for a disabled addition: returns its first argument."""

    def forward(self, x: Tensor, *_: Tensor | None) -> Tensor:
        """Return ``x``."""
        return x


class ConvNormAct(Recomputed):
    """GELU(norm(k x k convolution)) per task: the plain unit of convolutional decoders.

    Args:
        kernel_size: odd k.
    """

    def __init__(
        self, tasks: int, in_channels: int, out_channels: int, kernel_size: int = 3, *, norm: NormLayer = ChannelNorm
    ) -> None:
        super().__init__()
        self.conv = TaskConv(tasks, in_channels, out_channels, kernel_size)
        self.norm = norm(out_channels, tasks)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to (B, T, O, h, w); ``valid`` is (B, 1, h, w) or None."""
        return F.gelu(self.norm(self.conv(x_BTChw, valid)))


class ConvFeedForward(Recomputed):
    """x + 1x1(GELU(depthwise 3x3(1x1(norm(x))))) per task.

    Args:
        hidden: channels inside; 2 C if None.
        weight_sets: T, or 1 to let all tasks share all weights but the norm's.
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        hidden: int | None = None,
        *,
        norm: NormLayer = ChannelNorm,
        weight_sets: int | None = None,
    ) -> None:
        super().__init__()
        hidden, sets = hidden or 2 * width, weight_sets or tasks
        self.norm = norm(width, tasks)
        self.expand = TaskLinear(sets, width, hidden)
        self.spatial = TaskConv(sets, hidden, hidden, 3, depthwise=True)
        self.project = TaskLinear(sets, hidden, width, gain=RESIDUAL_GAIN)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape."""
        hidden = self.spatial(self.expand(self.norm(x_BTChw)), valid)
        return x_BTChw + self.project(F.gelu(hidden))
