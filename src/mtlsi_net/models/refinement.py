"""Refinement: task features at twice the resolution, with detail from the encoder's finest map or from the image."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_resize, valid_at, zero_invalid
from mtlsi_net.models.layers.subset import TaskLayer
from mtlsi_net.models.layers.task_layers import ChannelNorm, NormLayer, TaskLinear, Unchanged


class Refinement(nn.Module):
    """Interface: features, the canvas, the encoder's maps and valid pixels to features of a finer resolution.

    Attributes:
        width: channels of the result.
        factor: of the resolution.
    """

    width: int
    factor: int


class NoRefinement(Refinement):
    """Placeholder: features keep their resolution and width, and heads read no detail."""

    factor = 1

    def __init__(
        self,
        specs: Sequence[FeatureSpec],  # noqa: ARG002 - a refinement's signature, as below
        tasks: int,  # noqa: ARG002
        width: int,
        stride: int,  # noqa: ARG002
        norm: NormLayer = ChannelNorm,  # noqa: ARG002
    ) -> None:
        super().__init__()
        self.width = width

    def forward(self, x_BTChw: Tensor, *_: object) -> Tensor:
        """Return the features."""
        return x_BTChw


class Detail(nn.Module):
    """Interface: the canvas, the encoder's maps and valid pixels to one map of ``channels``."""

    channels: int


class EncoderDetail(Detail):
    """The encoder's finest map, normalised.

    Raises:
        InputError: its stride is not ``stride``.
    """

    def __init__(self, specs: Sequence[FeatureSpec], stride: int) -> None:
        super().__init__()
        finest = specs[0]
        if finest.stride != stride:
            raise InputError(
                f"detail=encoder needs an encoder map of stride {stride}, but the finest of this backbone has stride "
                f"{finest.stride}; set model.refinement.detail=image"
            )
        self.channels = finest.channels
        self.norm = ChannelNorm(finest.channels)

    def forward(self, image: Tensor, maps: Sequence[Tensor], pixels: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return (B, D, h, w)."""
        detail: Tensor = self.norm(maps[0])
        return detail


class ImageDetail(Detail):
    """Convolutions of stride 2 from the image to ``stride``: for encoders without a fine map, as plain transformers."""

    channels = 32

    def __init__(self, specs: Sequence[FeatureSpec], stride: int) -> None:  # noqa: ARG002 - as ``EncoderDetail``
        super().__init__()
        steps = stride.bit_length() - 1
        if steps < 1 or 2**steps != stride:
            raise InputError(f"detail=image gives strides 2, 4, 8, ..., not {stride}; choose another model.stride")
        inputs = [3, *[self.channels] * (steps - 1)]
        self.convs = nn.ModuleList(nn.Conv2d(c, self.channels, 3, stride=2, padding=1, bias=False) for c in inputs)
        self.norms = nn.ModuleList(ChannelNorm(self.channels) for _ in inputs)

    def forward(self, image: Tensor, maps: Sequence[Tensor], pixels: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return (B, D, h, w)."""
        x = image
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(zero_invalid(x, valid_at(pixels, x)))))
        return x


def finest_detail(specs: Sequence[FeatureSpec], stride: int) -> Detail:
    """Return the encoder's detail where it has a map of ``stride``, else the image's."""
    return EncoderDetail(specs, stride) if specs[0].stride == stride else ImageDetail(specs, stride)


DETAILS: dict[str, Callable[[Sequence[FeatureSpec], int], Detail]] = {
    "auto": finest_detail,
    "encoder": EncoderDetail,
    "image": ImageDetail,
}


class DetailRefinement(Recomputed, TaskLayer, Refinement):
    """Narrows the features, doubles their resolution and adds a 1x1 of the detail (our choice).

    Args:
        specs: of the encoder's maps.
        tasks: T.
        width: C of the features.
        stride: of the features; the detail has half of it.
        norm: class of the norms.
        fine_width: most channels at the finer resolution, where positions are four times as many; C if it is less.
        detail: ``encoder``, its finest map; ``image``, convolutions on the image; ``auto``, the encoder's map if it has the
            right stride, else the image.

    Attributes:
        width: channels of the result.

    Raises:
        InputError: an unknown ``detail``, or an encoder without such a map.
    """

    per_task = ("read.weight",)
    factor = 2

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        tasks: int,
        width: int,
        stride: int,
        norm: NormLayer = ChannelNorm,
        *,
        fine_width: int = 128,
        detail: str = "auto",
    ) -> None:
        super().__init__()
        self.tasks, self.width = tasks, min(fine_width, width)
        self.detail = choose("detail", detail, DETAILS)(specs, stride // self.factor)
        self.norm = Unchanged() if self.width == width else norm(width, tasks)
        self.narrow = Unchanged() if self.width == width else TaskLinear(tasks, width, self.width)
        self.read = nn.Conv2d(self.detail.channels, tasks * self.width, 1, bias=False)

    def forward(self, x_BTChw: Tensor, image: Tensor, maps: Sequence[Tensor], pixels: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to (B, T, D, 2 h, 2 w).

        Args:
            x_BTChw: features.
            image: (B, 3, H, W), normalised and padded.
            maps: of the encoder.
            pixels: (B, 1, H, W), valid pixels, or None.
        """
        detail = self.detail(image, maps, pixels)
        size = detail.shape[-2], detail.shape[-1]
        x = masked_resize(self.narrow(self.norm(x_BTChw)), size, pixels)
        return x + self.read(detail).view(x.shape)
