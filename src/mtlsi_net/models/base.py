"""What every network here has: an encoder, input statistics, and biases that start at the priors."""

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import ClassVar

from torch import Tensor, nn

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import OutputLayers
from mtlsi_net.models.layers.checkpointing import keep_statistics_once, recompute_parts
from mtlsi_net.models.layers.masking import valid_at
from mtlsi_net.models.layers.subset import PerTaskStage, keep_parameters
from mtlsi_net.models.layers.task_layers import NORMS
from mtlsi_net.models.layers.windows import WindowAttention
from mtlsi_net.models.padding import Canvas

StageFactory = Callable[..., nn.Module]
"""Partial of a stage's class; the network completes it with the sizes that only it knows."""


class Network(nn.Module):
    """What the suite needs of a network: images (B, 3, H, W) in [0, 1] and their validity mask to a Prediction.

    Attributes:
        task_names: in the order of the predictions.
    """

    task_names: tuple[str, ...]

    def check_size(self, size: Sequence[int]) -> None:
        """Raise an InputError for images of (H, W) that the network cannot take; any size is fine here."""

    def set_priors(self, priors: Mapping[str, Tensor]) -> None:
        """Let predictions start at each task's best constant raw output (K,), where the network can; here it cannot."""

    def checkpoint_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them, where the network can; here it cannot.

        Raises:
            InputError: it cannot.
        """
        raise InputError(f"{type(self).__name__} cannot compute its activations again (activation checkpointing)")

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Drop, where the network can, what only other tasks than ``names`` need; here it cannot.

        What it predicts for ``names`` stays the same; it may still predict others.
        """

    def indices(self, names: Sequence[str]) -> list[int]:
        """Return the places of ``names`` on the task axis."""
        return [self.task_names.index(name) for name in names]


class DenseNetwork(Network):
    """Image to encoder maps; subclasses go on from there to a Prediction.

    Args:
        encoder: publishes ``specs``, ``mean`` and ``std``.
        task_channels: task -> K output channels, in the order of the task axis.
        width: C of what comes after the encoder.
        stride: of the coarsest grid that has to divide the padded image.
        norm: of all decoder features, ``layer`` or ``batch``.
        mask_padding: leave padded positions out of the decoder's attention, means and convolutions.

    Subclasses also take factories of their stages: ``neck``, called with specs, width, stride; ``preliminary``, called with
    task_channels, width, activations, norm; ``head``, called with task_channels, width, norm; and ``activations``, task ->
    what makes its raw outputs into values, for stages that read predictions.

    Attributes:
        norm_layer: class of ``norm``.
        head: the last stage, from features (B, T, C, h, w) of all tasks; subclasses have it.
        last_stages: names of the last stages, in the order of the forward pass, that may be per task.
    """

    last_stages: ClassVar[tuple[str, ...]] = ("head",)
    head: nn.Module

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        width: int,
        stride: int,
        *,
        norm: str = "layer",
        mask_padding: bool,
    ) -> None:
        super().__init__()
        if not task_channels or min(task_channels.values()) < 1:
            raise InputError(f"task channels are {dict(task_channels)}; name at least one task, each with 1 or more")
        if stride < 1 or width < 4:
            raise InputError(f"stride={stride} or width={width} is too small; use e.g. 8 and 320")
        self.norm_layer = choose("norm", norm, NORMS)
        self.task_names = tuple(task_channels)
        self.canvas = Canvas(encoder.mean, encoder.std, encoder.specs, stride, mask_padding=mask_padding)
        self.encoder = encoder

    def encode(self, image: Tensor, valid: Tensor | None) -> tuple[list[Tensor], Tensor | None, tuple[int, int]]:
        """Return the encoder's maps, valid pixels (B, 1, H', W') or None, and the padded image's size (H', W')."""
        padded, pixels = self.canvas(image, valid)
        return self.encoder(padded), pixels, (padded.shape[-2], padded.shape[-1])

    def check_size(self, size: Sequence[int]) -> None:
        """Check that images of (H, W) suit the network's windows; larger ones only add padding and cost.

        Raises:
            InputError: a window is larger than the whole working grid.
        """
        height, width = (-(-side // self.canvas.stride) for side in size)
        for module in self.modules():
            if isinstance(module, WindowAttention) and module.window > max(height, width):
                raise InputError(
                    f"window={module.window} is larger than the working grid, {height}x{width} for images "
                    f"of {size[0]}x{size[1]}; choose a smaller window or stride, or larger images"
                )

    def set_priors(self, priors: Mapping[str, Tensor]) -> None:
        """Let every prediction start at its task's best constant raw output (K,).

        Raises:
            InputError: tasks or lengths that are not the network's, or values that are not finite.
        """
        for module in self.modules():
            if isinstance(module, OutputLayers):
                module.set_priors(priors)

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Drop what only other tasks use behind the last stage in which tasks interact."""
        indices = self.indices(names)
        stages = [getattr(self, name) for name in reversed(self.last_stages)]
        per_task = list(takewhile(lambda stage: isinstance(stage, PerTaskStage), stages))
        if per_task:
            for stage in per_task[:-1]:
                keep_parameters(stage, indices)
            first = per_task[-1].subset(indices, len(self.task_names))
            setattr(self, self.last_stages[-len(per_task)], first)
            self.task_names = tuple(names)

    def checkpoint_activations(self) -> None:
        """Keep the inputs of the decoder's parts and of the encoder's blocks alone, and compute the rest again.

        Raises:
            InputError: the encoder cannot.
        """
        self.encoder.checkpoint_activations()
        recompute_parts(self)
        keep_statistics_once(self)


class SharedMapNetwork(DenseNetwork):
    """A network whose tasks all start from one map, the neck's; its arguments are those of ``DenseNetwork``."""

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        width: int,
        stride: int,
        neck: StageFactory,
        *,
        norm: str = "layer",
        mask_padding: bool,
    ) -> None:
        super().__init__(encoder, task_channels, width, stride, norm=norm, mask_padding=mask_padding)
        self.neck = neck(specs=encoder.specs, width=width, stride=stride)

    def shared_features(self, image: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Return neck features (B, C, h, w), valid positions (B, 1, h, w) or None, and the padded image's size."""
        maps, pixels, canvas_size = self.encode(image, valid)
        shared = self.neck(maps, pixels)
        return shared, valid_at(pixels, shared), canvas_size


def crop(outputs: Mapping[str, Tensor], size: Sequence[int], stride: int = 1) -> dict[str, Tensor]:
    """Return the part of every output (B, K, h, w) of ``stride`` that an image of (H, W), at the top left, reaches."""
    height, width = -(-size[0] // stride), -(-size[1] // stride)
    return {name: _top_left(output, height, width) for name, output in outputs.items()}


def _top_left(output: Tensor, height: int, width: int) -> Tensor:
    if output.shape[-2:] == (height, width):  # the gradient of a slice is a copy, even of a whole map
        return output
    return output[..., :height, :width]
