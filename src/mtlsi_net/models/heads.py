"""Heads: task features to raw outputs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_resize
from mtlsi_net.models.layers.subset import PerTaskStage, TaskLayer
from mtlsi_net.models.layers.task_layers import ChannelNorm, ConvNormAct, NormLayer, TaskConv, TaskLinear


class OutputLayers(TaskLayer):
    """One 1x1 layer per task: the only layers whose size differs between tasks.

    Weights start small, so that a new network predicts its biases, the priors.

    Args:
        bias: False for outputs that are added to others.
    """

    per_task = ("layers",)

    def __init__(self, task_channels: Mapping[str, int], in_channels: int, *, bias: bool = True) -> None:
        super().__init__()
        self.tasks = len(task_channels)
        self.layers = nn.ModuleDict(
            {name: nn.Conv2d(in_channels, k, 1, bias=bias) for name, k in task_channels.items()}
        )
        for layer in self.layers.values():
            nn.init.trunc_normal_(layer.get_parameter("weight"), std=0.01)
            if bias:
                nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, x_BTChw: Tensor) -> dict[str, Tensor]:
        """Map (B, T, C, h, w) to task -> (B, K, h, w)."""
        # Contiguous while small: the losses would otherwise copy the maps that are resized from these.
        return {
            name: layer(x).contiguous() for (name, layer), x in zip(self.layers.items(), x_BTChw.unbind(1), strict=True)
        }

    def set_priors(self, priors: Mapping[str, Tensor]) -> None:
        """Write each task's best constant raw output (K,) into its bias.

        Raises:
            InputError: other tasks than the network's, another length than K, or values that are not finite.
        """
        if set(priors) != set(self.layers):
            raise InputError(f"priors are for the tasks {sorted(priors)}, but the network has {sorted(self.layers)}")
        for name, layer in self.layers.items():
            prior, bias = priors[name], dict(layer.named_parameters()).get("bias")
            if bias is None:
                continue
            if prior.shape != bias.shape or not prior.isfinite().all():
                raise InputError(f"prior of task {name!r} must be {bias.numel()} finite values, not {prior.tolist()}")
            with torch.no_grad():
                bias.copy_(prior)


class UpsampleHead(Recomputed, PerTaskStage):
    """Doubles the resolution at a quarter of the width, predicts there, and resizes to the image (our choice)."""

    def __init__(self, task_channels: Mapping[str, int], width: int, norm: NormLayer = ChannelNorm) -> None:
        super().__init__()
        tasks, narrow = len(task_channels), width // 4
        self.norm = norm(width, tasks)
        self.reduce = TaskLinear(tasks, width, narrow)
        self.refine = TaskConv(tasks, narrow, narrow, 3)
        self.refine_norm = norm(narrow, tasks)
        self.output = OutputLayers(task_channels, narrow)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None, size: tuple[int, int]) -> dict[str, Tensor]:
        """Map (B, T, C, h, w) to task -> (B, K, *size); ``valid`` is (B, 1, h, w) or None."""
        double = 2 * x_BTChw.shape[-2], 2 * x_BTChw.shape[-1]
        fine = valid if valid is None else valid.repeat_interleave(2, -2).repeat_interleave(2, -1)
        x = masked_resize(self.reduce(self.norm(x_BTChw)), double, valid)
        x = F.gelu(self.refine_norm(self.refine(x, fine)))
        return {name: masked_resize(y, size, fine) for name, y in self.output(x).items()}


class NormedOutput(nn.Module):
    """Predictions from normalised features.

    Args:
        bias: False for predictions that are added to others.
    """

    def __init__(
        self, task_channels: Mapping[str, int], width: int, norm: NormLayer = ChannelNorm, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.norm = norm(width, len(task_channels))
        self.output = OutputLayers(task_channels, width, bias=bias)

    def forward(self, x_BTChw: Tensor) -> dict[str, Tensor]:
        """Map (B, T, C, h, w) to task -> (B, K, h, w)."""
        predictions: dict[str, Tensor] = self.output(self.norm(x_BTChw))
        return predictions


class PlainHead(Recomputed, PerTaskStage):
    """A 3x3 convolution, the prediction, and a resize to the image: for features at sufficient resolution (our choice).

    Args:
        shortcut: add a prediction from the features themselves, which learns faster, above all classes.
    """

    def __init__(
        self,
        task_channels: Mapping[str, int],
        width: int,
        norm: NormLayer = ChannelNorm,
        *,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.refine = ConvNormAct(len(task_channels), width, width, norm=norm)
        self.output = OutputLayers(task_channels, width)
        self.shortcut = NormedOutput(task_channels, width, norm, bias=False) if shortcut else None

    def forward(self, x_BTChw: Tensor, valid: Tensor | None, size: tuple[int, int]) -> dict[str, Tensor]:
        """Map (B, T, C, h, w) to task -> (B, K, *size); ``valid`` is (B, 1, h, w) or None."""
        outputs = self.output(self.refine(x_BTChw, valid))
        if self.shortcut is not None:
            direct = self.shortcut(x_BTChw)
            outputs = {name: y + direct[name] for name, y in outputs.items()}
        return {name: masked_resize(y, size, valid) for name, y in outputs.items()}
