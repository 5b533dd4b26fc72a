"""Base classes of networks: encoder, input normalisation, and biases initialised from priors."""

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import ClassVar

from torch import Tensor, nn

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import OutputLayers
from mtlsi_net.models.layers.checkpointing import keep_statistics_once, recompute_parts
from mtlsi_net.models.layers.masking import valid_at
from mtlsi_net.models.layers.resizing import top_left
from mtlsi_net.models.layers.subset import PerTaskStage, keep_parameters
from mtlsi_net.models.layers.task_layers import NORMS
from mtlsi_net.models.layers.windows import WindowAttention
from mtlsi_net.models.padding import Canvas

StageFactory = Callable[..., nn.Module]
"""Partial of a stage's class; the network adds the sizes that only it knows."""


class Network(nn.Module):
    """Interface of a network: images (B, 3, H, W) in [0, 1] and their validity mask to a Prediction.

    Attributes:
        task_names: in the order of the predictions.
        aux_strides: that ``Prediction.aux`` may have; maps of other strides are taken to end where the image does.
    """

    task_names: tuple[str, ...]
    aux_strides: Sequence[int] = ()

    def check_size(self, size: Sequence[int]) -> None:
        """Raise an InputError if the network does not support images of (H, W); by default every size is supported."""

    def set_priors(self, priors: Mapping[str, Tensor]) -> None:
        """Initialise predictions to each task's best constant raw output (K,), if supported; no effect by default."""

    def checkpoint_activations(self) -> None:
        """Recompute activations in the backward pass instead of storing them, if supported; by default it is not.

        Raises:
            InputError: activation checkpointing is not supported.
        """
        raise InputError(f"{type(self).__name__} does not support activation checkpointing; switch it off")

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Remove, if supported, the parts that ``names`` do not need; no effect by default.

        Predictions for ``names`` stay the same; other tasks may still be predicted.
        """

    def indices(self, names: Sequence[str]) -> list[int]:
        """Return the indices of ``names`` on the task axis."""
        return [self.task_names.index(name) for name in names]


class DenseNetwork(Network):
    """Network with a shared encoder; subclasses map its feature maps to a Prediction.

    Args:
        encoder: has the attributes ``specs``, ``mean`` and ``std``.
        task_channels: task -> K output channels, in the order of the task axis.
        width: C, channels after the encoder.
        stride: of the coarsest grid; it divides the padded image size.
        working_stride: of the grid on which tasks interact; None: ``stride``.
        norm: of the decoder's features, ``layer`` or ``batch``; norms of the encoder's maps, of detail and of tokens are over
            channels either way.
        mask_padding: leave padded positions out of the decoder's attention, means and convolutions.

    Subclasses also take factories of their stages: ``neck``, called with specs, width, stride; ``preliminary``, called with
    task_channels, width, activations, norm; ``head``, called with task_channels, width, norm; and ``activations``, task ->
    function from raw outputs to values, for stages that read predictions.

    Attributes:
        norm_layer: class of ``norm``.
        stride: ``working_stride``.
        decoder_stride: of the grid of the decoder's windows and gates; ``stride`` unless a subclass sets another.
        head: the last stage, from features (B, T, C, h, w) of all tasks; set by subclasses.
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
        working_stride: int | None = None,
    ) -> None:
        super().__init__()
        if not task_channels or min(task_channels.values()) < 1:
            raise InputError(
                f"task_channels={dict(task_channels)}; give at least one task, each with at least one channel"
            )
        if stride < 1 or width < 4:
            raise InputError(f"stride={stride} or width={width} is too small; use e.g. 8 and 320")
        self.norm_layer = choose("norm", norm, NORMS)
        self.task_names = tuple(task_channels)
        self.stride = self.decoder_stride = working_stride or stride
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
        self.encoder.check_size(size)
        self.canvas.check_size(size)
        height, width = (-(-side // self.decoder_stride) for side in size)
        for module in self.modules():
            if isinstance(module, WindowAttention) and module.window > max(height, width):
                raise InputError(
                    f"window={module.window} is larger than the decoder's grid, {height}x{width} for images "
                    f"of {size[0]}x{size[1]}; choose a smaller window or stride, or larger images"
                )

    def set_priors(self, priors: Mapping[str, Tensor]) -> None:
        """Initialise every prediction to its task's best constant raw output (K,).

        Raises:
            InputError: tasks or lengths differ from the network's, or values are not finite.
        """
        for module in self.modules():
            if isinstance(module, OutputLayers):
                module.set_priors(priors)

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Remove the parameters of other tasks in the stages after the last task interaction."""
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
        """Store only the inputs of the decoder's parts and the encoder's blocks; recompute other activations.

        Raises:
            InputError: the encoder does not support it.
        """
        self.encoder.checkpoint_activations()
        recompute_parts(self)
        keep_statistics_once(self)


class SharedMapNetwork(DenseNetwork):
    """A network whose tasks all start from one map, the neck's only level; its arguments are those of ``DenseNetwork``."""

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
        (shared,) = self.neck(maps, pixels)
        return shared, valid_at(pixels, shared), canvas_size


def crop(outputs: Mapping[str, Tensor], size: Sequence[int], stride: int = 1) -> dict[str, Tensor]:
    """Return the part of every output (B, K, h, w) of ``stride`` that an image of (H, W), at the top left, reaches."""
    height, width = -(-size[0] // stride), -(-size[1] // stride)
    return {name: top_left(output, height, width) for name, output in outputs.items()}
