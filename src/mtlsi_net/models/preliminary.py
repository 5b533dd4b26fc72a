"""Preliminary decoders: levels that all tasks share to one feature map, and early predictions, per task."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.models.heads import NormedOutput, OutputLayers
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_resize, valid_at, zero_invalid
from mtlsi_net.models.layers.subset import CrossTaskLayer, PerTaskStage, TaskLayer, keep_parameters
from mtlsi_net.models.layers.task_layers import ChannelNorm, ConvFeedForward, NormLayer, Unchanged

Activation = Callable[[Tensor], Tensor]
"""Raw outputs (B, K, h, w) to the values that they stand for, differentiable: probabilities, unit vectors, metres, ..."""


class TaskConvs(Recomputed, TaskLayer, PerTaskStage):
    """A 3x3 convolution from the shared map to each task, then ``depth`` residual convolution blocks (our choice).

    Args:
        depth: number of residual blocks.
    """

    per_task = ("branch.weight",)

    def __init__(self, tasks: int, width: int, depth: int = 1, norm: NormLayer = ChannelNorm) -> None:
        super().__init__()
        self.tasks = tasks
        self.branch = nn.Conv2d(width, tasks * width, 3, padding=1, bias=False)
        self.norm = norm(width, tasks)
        self.blocks = nn.ModuleList(ConvFeedForward(tasks, width, norm=norm) for _ in range(depth))

    def subset(self, indices: Sequence[int], tasks: int) -> Self:  # noqa: ARG002 - the input is one map for all tasks
        """Remove the branches of all other tasks."""
        keep_parameters(self, indices)
        return self

    def forward(self, shared_BChw: Tensor, valid: Tensor | None, coarser_BTChw: Tensor | None = None) -> Tensor:
        """Map (B, C, h, w) to (B, T, C, h, w).

        Args:
            shared_BChw: the shared map.
            valid: (B, 1, h, w) or None.
            coarser_BTChw: features of a coarser level, added between the convolution and the blocks; None without one.
        """
        x = torch.unflatten(self.branch(zero_invalid(shared_BChw, valid)), 1, (self.tasks, -1))
        x = F.gelu(self.norm(x))
        if coarser_BTChw is not None:
            x = x + masked_resize(coarser_BTChw, (x.shape[-2], x.shape[-1]), valid)
        for block in self.blocks:
            x = block(x, valid)
        return x


class Feedback(TaskLayer, CrossTaskLayer):
    """Adds activated preliminary predictions to each task's features, through a 1x1 that starts at zero.

    Args:
        activations: task -> function from raw outputs to values; identity where a task has none.
        of_all: every task reads the concatenated predictions of all tasks instead of only its own.
    """

    per_task = ("layers",)

    def __init__(
        self,
        task_channels: Mapping[str, int],
        width: int,
        activations: Mapping[str, Activation],
        of_all: bool = False,
    ) -> None:
        super().__init__()
        self.activations, self.of_all, self.between_tasks = dict(activations), of_all, of_all
        self.tasks = len(task_channels)
        total = sum(task_channels.values())
        self.layers = nn.ModuleList(nn.Conv2d(total if of_all else k, width, 1) for k in task_channels.values())
        for parameter in self.layers.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features_BTChw: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Map features (B, T, C, h, w) and raw task -> (B, K, h, w) to features."""
        values = [self.activations.get(name, nn.Identity())(y).to(y.dtype) for name, y in predictions.items()]
        if self.of_all:
            values = [torch.cat(values, 1)] * len(values)
        read = [layer(x) for layer, x in zip(self.layers, values, strict=True)]
        return features_BTChw + torch.stack(read, 1)


class PreliminaryDecoders(nn.Module):
    """Task features F_t and preliminary predictions P_t [from the paper; their layers are our choice].

    With several levels every task goes from coarse to fine: the features of a level are added to those of the next one.

    Args:
        depth: residual convolution blocks per task and level.
        levels: number of levels of the neck.
        supervised: number of levels with predictions, the finest first.
        feedback: predictions added to a task's finest features: ``none``, its ``own``, or those of ``all`` tasks.
        activations: task -> function from raw outputs to values for the feedback.

    Raises:
        InputError: an option that does not exist, or more supervised levels than levels.
    """

    def __init__(
        self,
        task_channels: Mapping[str, int],
        width: int,
        depth: int = 1,
        *,
        levels: int = 1,
        supervised: int = 1,
        feedback: str = "none",
        activations: Mapping[str, Activation] | None = None,
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        if not 1 <= supervised <= levels:
            raise InputError(f"supervised={supervised} is out of range; give 1 to {levels}, the number of levels")
        kinds: dict[str, Callable[..., nn.Module]] = {
            "none": lambda *_: Unchanged(),
            "own": Feedback,
            "all": partial(Feedback, of_all=True),
        }
        tasks = len(task_channels)
        self.coarser = nn.ModuleList(TaskConvs(tasks, width, depth, norm) for _ in range(levels - 1))  # finest first
        self.coarser_outputs = nn.ModuleList(NormedOutput(task_channels, width, norm) for _ in range(supervised - 1))
        self.decoders = TaskConvs(tasks, width, depth, norm)
        self.norm = norm(width, tasks)
        self.output = OutputLayers(task_channels, width)
        self.feedback = choose("feedback", feedback, kinds)(task_channels, width, activations or {})

    def forward(self, levels: Sequence[Tensor], pixels: Tensor | None) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Return the finest features (B, T, C, h, w), and task -> (B, K, h_i, w_i) of each supervised level.

        Args:
            levels: (B, C, h_i, w_i), the finest first.
            pixels: (B, 1, H, W), valid pixels, or None.
        """
        x: Tensor | None = None
        coarse: list[Tensor] = []
        for level, decode in zip(reversed(levels[1:]), reversed(self.coarser), strict=True):
            x = decode(level, valid_at(pixels, level), x)
            coarse.insert(0, x)
        features = self.decoders(levels[0], valid_at(pixels, levels[0]), x)
        predictions = self.output(self.norm(features))
        others = [output(y) for output, y in zip(self.coarser_outputs, coarse, strict=False)]
        return self.feedback(features, predictions), [predictions, *others]
