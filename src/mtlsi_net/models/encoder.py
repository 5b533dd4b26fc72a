"""Encoder: any timm backbone as four feature maps, at any input size."""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn
from torch.func import functional_call

from mtlsi_net.core.errors import InputError, nearest_names
from mtlsi_net.core.timm_library import timm
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.layers.masking import pad_to_multiple
from mtlsi_net.models.packaged_weights import load_packaged_weights
from mtlsi_net.models.weights import brief, read_weights

log = logging.getLogger(__name__)

MAPS = 4


class Encoder(nn.Module):
    """Interface of an encoder: normalised images (B, 3, H, W) to a list of maps.

    Attributes:
        specs: channels and stride of every map.
        mean: per RGB channel, of values in [0, 1], that the weights expect.
        std: per RGB channel.
    """

    specs: list[FeatureSpec]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def checkpoint_activations(self) -> None:
        """Recompute the blocks' activations in the backward pass instead of storing them; no effect by default."""

    def check_size(self, size: Sequence[int]) -> None:
        """Raise an InputError if the encoder cannot process images of (H, W); by default it can."""

    def embeddings(self) -> set[str]:
        """Return the names of parameters that ``decay_all=false`` spares, beside biases and norms; none by default."""
        return set()


class TimmEncoder(Encoder):
    """A timm backbone by name.

    Plain transformers give the patch tokens (prefix tokens dropped) of four equally spaced blocks, without the final
    norm; hierarchical networks their last four stages.

    Args:
        name: of timm, with or without the weights' tag.
        pretrained: download timm's weights; False starts from random ones (a checkpoint of the whole network may follow).
        weights_file: weights in timm's naming (.safetensors, .pth, .bin), taken whatever ``pretrained`` says. Must fit
            completely, but for a classifier, which is dropped.
        weights_package: installed package with the weights, see ``packaged_weights``, instead of a download.
        image_size: (height, width) that position embeddings are made for; other sizes work too, by interpolation.
            None keeps the pretraining size.
        drop_path_rate: stochastic depth, 0..1, whatever the family's own default.
        statistics: input mean and std: ``imagenet``, ``pretrained_cfg`` (timm's record), or ``auto``: ImageNet's for
            augreg ViTs (timm records 0.5; the published numbers of this field use ImageNet's), else timm's.
        trainable: ``all``, ``none``, or the number of last blocks that learn. Frozen blocks stay in eval mode.

    Raises:
        InputError: unknown backbone or option, or weights that are unavailable or do not fit: a backbone is never
            left at random weights silently.

    Example:
        >>> import torch
        >>> encoder = TimmEncoder("test_convnext", pretrained=False)
        >>> [spec.stride for spec in encoder.specs]
        [4, 8, 16, 32]
        >>> maps = encoder(torch.rand(1, 3, 64, 96))
        >>> [tuple(map.shape[2:]) for map in maps]
        [(16, 24), (8, 12), (4, 6), (2, 3)]
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = True,
        weights_file: str | Path | None = None,
        image_size: tuple[int, int] | None = None,
        drop_path_rate: float = 0.0,
        statistics: Literal["auto", "imagenet", "pretrained_cfg"] = "auto",
        trainable: Literal["all", "none"] | int = "all",
        weights_package: str | None = None,
    ) -> None:
        super().__init__()
        _check_name(name)
        self.name = name
        if not 0 <= drop_path_rate < 1:
            raise InputError(f"drop_path_rate={drop_path_rate} is out of range; give 0 or more and less than 1")
        body = _load(name, pretrained, weights_file, weights_package, image_size, drop_path_rate)
        self.mean, self.std = _input_statistics(name, statistics)
        self.indices, self.specs = _choose_maps(name, body)
        body.prune_intermediate_layers(self.indices, prune_norm=True, prune_head=True)
        if isinstance(getattr(body, "head", None), nn.Module):
            body.head = nn.Identity()  # removes a norm of Swin and ConvNeXt that no map uses
        self.body = body
        self.multiple = math.lcm(*(spec.stride for spec in self.specs))
        self.num_layers = max(self.parameter_depths().values())
        self._freeze(trainable)

    def parameter_depths(self) -> dict[str, int]:
        """Return parameter name -> depth: 0 embeddings or stem, ``num_layers`` the last block, for layer-wise decay."""
        depths: dict[str, int] = timm.models.group_parameters(self.body, self.body.group_matcher(), reverse=True)
        return {f"body.{name}": depth for name, depth in depths.items()}

    def embeddings(self) -> set[str]:
        """Return the names of parameters that timm does not decay: position embeddings, class tokens, tables of biases."""
        names: set[str] = getattr(self.body, "no_weight_decay", set)()
        return {f"body.{name}" for name in names}

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return four maps (B, C_i, ceil(H / stride_i), ceil(W / stride_i)).

        Args:
            image: (B, 3, H, W), normalised by ``mean`` and ``std``; padded inside with zeros, the mean colour.
        """
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple)
        if torch.compiler.is_compiling():
            maps = self._maps(padded)
        else:
            with _sizes_explained(self.name, (height, width)):
                maps = self._maps(padded)
        return [
            x[..., : -(-height // spec.stride), : -(-width // spec.stride)]
            for x, spec in zip(maps, self.specs, strict=True)
        ]

    def _maps(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.body.forward_intermediates(image, indices=self.indices, intermediates_only=True)
        return maps

    def check_size(self, size: Sequence[int]) -> None:
        """Run on the meta device: some families of timm take images of one size only.

        Raises:
            InputError: names the family, the size and what to do.
        """
        tensors = (*self.named_parameters(), *self.named_buffers())
        on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                functional_call(self, on_meta, (torch.empty(1, 3, *size, device="meta"),))
        except InputError:
            raise
        except Exception as error:  # what the meta device lacks says nothing about sizes
            log.debug("%s on the meta device (%s)", self.name, brief(error))
        finally:
            self.train(training)

    def checkpoint_activations(self) -> None:
        """Let timm store only the blocks' inputs.

        Raises:
            InputError: this backbone does not support it.
        """
        try:
            self.body.set_grad_checkpointing(True)
        except (AttributeError, AssertionError):
            raise InputError(
                f"timm's {type(self.body).__name__} does not support activation checkpointing; switch it off"
            ) from None

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Set training mode, except for parts that are frozen as a whole: their statistics and paths stay fixed."""
        super().train(mode)
        for module in self.body.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    def _freeze(self, trainable: Literal["all", "none"] | int) -> None:
        if isinstance(trainable, bool) or (isinstance(trainable, str) and trainable not in ("all", "none")):
            raise InputError(f"trainable={trainable!r} is not known; use all, none or a number of blocks")
        last = {"all": self.num_layers + 1, "none": 0}[trainable] if isinstance(trainable, str) else trainable
        if not 0 <= last <= self.num_layers + 1:
            raise InputError(f"trainable={trainable} is out of range: this backbone has {self.num_layers} blocks")
        depths = self.parameter_depths()
        for name, parameter in self.named_parameters():
            if depths[name] <= self.num_layers - last:
                parameter.requires_grad_(False)
        self.train(self.training)


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        raise InputError(f"timm has no backbone {name!r}; {nearest_names(name.split('.')[0], timm.list_models())}")
    tag = name.partition(".")[2]
    if tag and name not in (known := timm.list_pretrained(f"{name.split('.')[0]}.*")):
        raise InputError(f"timm has no weights {name!r} for this backbone; {nearest_names(name, known)}")


def _load(
    name: str,
    pretrained: bool,
    weights_file: str | Path | None,
    weights_package: str | None,
    image_size: tuple[int, int] | None,
    drop_path: float,
) -> Any:  # noqa: ANN401 - timm is untyped
    """Return the whole timm model with all requested weights loaded."""

    def build(**options: Any) -> Any:  # noqa: ANN401
        return _create(name, image_size, drop_path, **options)

    if not pretrained and weights_file is None:
        log.info("%s: no pretrained weights loaded (pretrained=false)", name)
        return build(pretrained=False, num_classes=0)
    if weights_file is not None:
        state = _without_classifier(name, read_weights("weights_file", Path(weights_file)))
        overlay = {"state_dict": state, "num_classes": 0}
        try:
            body = build(pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
        except (RuntimeError, KeyError) as error:
            raise InputError(f"weights file {weights_file} does not fit {name}: {brief(error)}") from None
        body.pretrained_cfg.pop("state_dict")
        log.info("%s: loaded weights from %s", name, weights_file)
        return body
    if weights_package is not None:
        body = build(pretrained=False, num_classes=0)
        load_packaged_weights(body, name, weights_package)
        log.info("%s: loaded weights from the package %s", name, weights_package)
        return body
    try:
        body = build(pretrained=True)  # with its classifier, so that timm loads strictly
    except (OSError, HfHubHTTPError) as error:
        raise InputError(_how_to_get(name, brief(error))) from None
    except RuntimeError as error:
        raise InputError(f"weights of {name} cannot be loaded: {brief(error)}; set pretrained=false") from None
    log.info("%s: loaded weights from %s", name, body.pretrained_cfg.get("hf_hub_id") or body.pretrained_cfg.get("url"))
    return body


def _create(name: str, image_size: tuple[int, int] | None, drop_path_rate: float | None, **options: Any) -> Any:  # noqa: ANN401
    """Create the model for any input size; the option for this differs between model families.

    A ``drop_path_rate`` of 0 is passed too, as some families drop paths by default; None: the family takes no rate.
    """
    size = {} if image_size is None else {"img_size": tuple(image_size)}
    rate = {} if drop_path_rate is None else {"drop_path_rate": drop_path_rate}
    any_size: list[dict[str, Any]] = [{"dynamic_img_size": True, **size}, {"strict_img_size": False, **size}, {}]
    for extra in any_size:
        try:
            return timm.create_model(name, **extra, **rate, **options)
        except TypeError as error:
            message = str(error)
            if "drop_path_rate" in message and drop_path_rate:
                raise InputError(f"backbone {name} has no stochastic depth; set drop_path_rate=0") from None
            if "drop_path_rate" in message and rate:
                return _create(name, image_size, None, **options)
            if "unexpected keyword argument" not in message or not any(key in message for key in extra):
                raise
    raise AssertionError("unreachable: the last attempt passes no size option")  # pragma: no cover


@contextmanager
def _sizes_explained(name: str, size: tuple[int, int]) -> Iterator[None]:
    """Turn an error of timm about an image's size into an InputError that names the family, sizes and a remedy."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        about_shapes = re.search("size of tensor|shape|broadcast|must match|divisible", str(error))
        if isinstance(error, torch.OutOfMemoryError) or not (isinstance(error, AssertionError) or about_shapes):
            raise
        family = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
        made_for = "x".join(map(str, timm.get_pretrained_cfg(name).input_size[1:]))
        reason = f" ({brief(error)})" if str(error) else ""
        raise InputError(
            f"backbone {name} of timm's family {family} cannot process images of {size[0]}x{size[1]}{reason}; it was made "
            f"for {made_for}: use that size, or a family that takes any (ViT, DINOv3, Swin, ConvNeXt, ResNet)"
        ) from error


def _choose_maps(name: str, body: Any) -> tuple[list[int], list[FeatureSpec]]:  # noqa: ANN401
    info = list(getattr(body, "feature_info", []))
    if len(info) < MAPS or not (hasattr(body, "forward_intermediates") and hasattr(body, "group_matcher")):
        raise InputError(f"backbone {name} does not offer {MAPS} feature maps through timm; choose another")
    plain = len({entry["reduction"] for entry in info}) == 1
    total = len(info)
    indices = [total * (i + 1) // MAPS - 1 for i in range(MAPS)] if plain else list(range(total - MAPS, total))
    return indices, [FeatureSpec(info[i]["num_chs"], info[i]["reduction"]) for i in indices]


def _input_statistics(name: str, statistics: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    imagenet = tuple(timm.data.IMAGENET_DEFAULT_MEAN), tuple(timm.data.IMAGENET_DEFAULT_STD)
    cfg = timm.get_pretrained_cfg(name)
    recorded = tuple(cfg.mean), tuple(cfg.std)
    lineage = name.startswith("vit_") and "augreg" in (cfg.tag or "")
    choices = {"imagenet": imagenet, "pretrained_cfg": recorded, "auto": imagenet if lineage else recorded}
    if statistics not in choices:
        raise InputError(f"statistics={statistics!r} is not known; {nearest_names(statistics, choices)}")
    mean, std = choices[statistics]
    log.info("%s: input mean %s, std %s (statistics=%s)", name, mean, std, statistics)
    return mean, std


def _without_classifier(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    classifiers = timm.get_pretrained_cfg(name).classifier or ()
    names = (classifiers,) if isinstance(classifiers, str) else classifiers
    dropped = tuple(f"{classifier}.{part}" for classifier in names for part in ("weight", "bias"))
    return {key: value for key, value in state.items() if key not in dropped}


def _how_to_get(name: str, reason: str) -> str:
    repository = str(timm.get_pretrained_cfg(name).hf_hub_id or "").rstrip("/")
    return (
        f"weights of {name} could not be downloaded ({reason}). On a machine with network access run "
        f"`hf download {repository} model.safetensors --local-dir .`, copy the file here and set "
        "weights_file=FILE, or train from scratch with pretrained=false"
    )
