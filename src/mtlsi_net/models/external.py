"""Adapter for external networks: any module that maps images to a dictionary of maps."""

import inspect
import logging
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import Network
from mtlsi_net.models.preliminary import Activation
from mtlsi_net.models.weights import brief, read_weights

log = logging.getLogger(__name__)

DATA_PARALLEL = "module."


class ExternalNetwork(Network):
    """Wrapper that gives an external module the interface of this suite; it sees padding as pixels of the mean colour.

    The module maps (B, 3, H, W) to task -> raw outputs (B, K, h, w): logits of classes, of (other, salient) and of
    boundaries, metres, normals of any length. Maps smaller than the image are enlarged bilinearly.

    Args:
        task_channels: task -> K.
        target: dotted name of a class or function that returns the module.
        options: its keyword arguments.
        weights_file: state_dict of the module, which must fit completely; None keeps the weights set by ``target``.
        normalize: pass (image - mean) / std instead of RGB in [0, 1].
        mean: per RGB channel, of values in [0, 1].
        std: per RGB channel.
        activations: not used.

    Raises:
        InputError: a target that cannot be imported or called with the options, or does not return a module; weights that do
            not fit.
    """

    def __init__(
        self,
        task_channels: Mapping[str, int],
        *,
        target: str,
        options: Mapping[str, Any] | None = None,
        weights_file: str | Path | None = None,
        normalize: bool = False,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        activations: Mapping[str, Activation] | None = None,  # noqa: ARG002 - every network gets them
    ) -> None:
        super().__init__()
        self.task_names, self.task_channels, self.target = tuple(task_channels), dict(task_channels), target
        self.normalize = normalize
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor
        self.model = _build(target, options or {})
        if weights_file is not None:
            _load(self.model, Path(weights_file), target)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:  # noqa: ARG002 - as all networks
        """Return the module's outputs at the image's size.

        Args:
            image: (B, 3, H, W), RGB in [0, 1].
            valid: not used.

        Raises:
            InputError: the outputs differ from those in the class docstring.
        """
        outputs = self.model((image - self.mean) / self.std if self.normalize else image)
        self._check_tasks(outputs)
        for name, channels in self.task_channels.items():
            self._check_map(name, outputs[name], channels, image)
        return Prediction({name: _enlarge(outputs[name], image) for name in self.task_names})

    def _check_tasks(self, outputs: object) -> None:
        expected = ", ".join(f"{name} ({channels} channels)" for name, channels in self.task_channels.items())
        if not isinstance(outputs, Mapping):
            raise InputError(
                f"target={self.target} returned a {type(outputs).__name__}; return a dictionary: {expected}"
            )
        missing = [name for name in self.task_names if name not in outputs]
        extra = [str(name) for name in outputs if name not in self.task_names]
        words = [f"is missing {', '.join(missing)}"] if missing else []
        words += [f"has unexpected {', '.join(extra)}"] if extra else []
        if words:
            raise InputError(
                f"target={self.target}: its output {' and '.join(words)}; expected exactly {expected}; "
                "remove the other tasks from the configuration"
            )

    def _check_map(self, name: str, output: object, channels: int, image: Tensor) -> None:
        batch, _, height, width = image.shape
        wanted = f"({batch}, {channels}, h, w) floats, at most {height}x{width}"
        if not isinstance(output, Tensor) or not output.is_floating_point():
            kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"target={self.target}: {name} is {kind}; expected {wanted}, raw outputs")
        shape = tuple(output.shape)
        if len(shape) != 4 or shape[:2] != (batch, channels) or shape[2] > height or shape[3] > width:
            raise InputError(f"target={self.target}: {name} has shape {shape}; expected {wanted}")


def _enlarge(output: Tensor, image: Tensor) -> Tensor:
    size = image.shape[-2:]
    if output.shape[-2:] == size:
        return output
    return F.interpolate(output, size, mode="bilinear", align_corners=False)


def _build(target: str, options: Mapping[str, Any]) -> nn.Module:
    make = _find(target)
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        raise InputError(f"options={dict(options)} do not fit {target}: {error}") from None
    model = make(**options)
    if not isinstance(model, nn.Module):
        raise InputError(f"target={target} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model


def _find(target: str) -> Callable[..., object]:
    try:
        make: Callable[..., object] = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"target={target} cannot be imported ({error}); give package.function, importable from the current folder "
            "or from PYTHONPATH"
        ) from None
    if not callable(make):
        raise InputError(f"target={target} is a {type(make).__name__}; give a class or a function")
    return make


def _load(model: nn.Module, path: Path, target: str) -> None:
    state = read_weights("weights_file", path)
    if all(key.startswith(DATA_PARALLEL) for key in state):  # saved from within DistributedDataParallel
        state = {key.removeprefix(DATA_PARALLEL): value for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"weights_file={path} does not fit {target}: {brief(error)}") from None
    log.info("%s: loaded weights from %s", target, path)
