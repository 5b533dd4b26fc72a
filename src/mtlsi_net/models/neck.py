"""Necks: four encoder maps to a list of levels that all tasks share, the finest first."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_resize, resize_valid, zero_invalid
from mtlsi_net.models.layers.task_layers import ChannelNorm


class Neck(Recomputed):
    """Interface of a neck: encoder maps and valid pixels to levels (B, C_i, h_i, w_i).

    Attributes:
        level_strides: of each level, the finest first.
    """

    level_strides: list[int]


class PyramidNeck(Neck):
    """One level: normalises, projects, resizes and adds the maps, then mixes once by a 3x3 convolution (our choice).

    Each map has its own LayerNorm: the intermediates of self-supervised transformers have outlier channels.

    Args:
        stride: of the working grid.
    """

    def __init__(self, specs: Sequence[FeatureSpec], width: int, stride: int) -> None:
        super().__init__()
        self.level_strides = [stride]
        self.strides, self.stride = [spec.stride for spec in specs], stride
        self.norms = nn.ModuleList(ChannelNorm(spec.channels) for spec in specs)
        self.projections = nn.ModuleList(nn.Conv2d(spec.channels, width, 1) for spec in specs)
        self.norm = ChannelNorm(width)
        self.mix = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, maps: Sequence[Tensor], valid: Tensor | None) -> list[Tensor]:
        """Return one level (B, C, h, w) from the encoder's maps; ``valid`` is (B, 1, H, W), per pixel, or None.

        A cell of a map counts if any of its pixels is valid. A cell of flat padding must not: its norm has next to no
        variance to divide by, and would send huge gradients to the encoder.
        """
        height, width = (side * self.strides[0] // self.stride for side in maps[0].shape[-2:])
        by_stride: dict[int, Tensor] = {}  # maps of one size are added before they are resized
        for x, stride, norm, project in zip(maps, self.strides, self.norms, self.projections, strict=True):
            y = project(norm(x))
            by_stride[stride] = by_stride[stride] + y if stride in by_stride else y
        resized = [masked_resize(x, (height, width), valid) for x in by_stride.values()]
        shared = sum(resized[1:], start=resized[0])
        positions = None if valid is None else resize_valid(valid, (height, width))
        return [shared + self.mix(zero_invalid(F.gelu(self.norm(shared)), positions))]


class LevelNeck(Neck):
    """Normalises, projects and resizes every map separately, for decoders that read several levels (our choice).

    It makes a pyramid of a plain transformer's maps, and keeps that of a hierarchical encoder.

    Args:
        specs: the encoder's maps, shallow ones first.
        strides: of each level.
        widths: channels of each level; None keeps those of the maps and projects nothing.
    """

    def __init__(
        self, specs: Sequence[FeatureSpec], strides: Sequence[int], widths: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.of_maps, self.strides = [spec.stride for spec in specs], list(strides)
        self.level_strides = self.strides
        self.norms = nn.ModuleList(ChannelNorm(spec.channels) for spec in specs)
        self.projections = nn.ModuleList(
            nn.Identity() if widths is None else nn.Conv2d(spec.channels, widths[i], 1) for i, spec in enumerate(specs)
        )

    def forward(self, maps: Sequence[Tensor], valid: Tensor | None) -> list[Tensor]:
        """Return a (B, C_i, h_i, w_i) for each map; ``valid`` is (B, 1, H, W), per pixel, or None."""
        levels = []
        for x, old, new, norm, project in zip(
            maps, self.of_maps, self.strides, self.norms, self.projections, strict=True
        ):
            size = x.shape[-2] * old // new, x.shape[-1] * old // new
            levels.append(masked_resize(project(norm(x)), size, valid))
        return levels


class CoarseToFineNeck(LevelNeck):
    """Levels of ``stride``, twice and four times that, ... for decoders that go from coarse to fine (our choice).

    The coarsest level reads the encoder's last map, the next one the map before it, and so on; the finest level reads all
    maps that are left. For a plain transformer, whose maps have one stride, deeper blocks so give coarser levels. Where there
    are fewer maps than levels, the last map gives all levels that are coarser.

    Args:
        stride: of the finest level.
        levels: number of levels.

    Attributes:
        level_strides: of each level, the finest first.

    Raises:
        InputError: fewer than one level.
    """

    def __init__(self, specs: Sequence[FeatureSpec], width: int, stride: int, levels: int = 3) -> None:
        if levels < 1:
            raise InputError(f"levels={levels} is too small; give at least 1")
        last = len(specs) - 1
        finest = max(1, len(specs) - levels + 1)  # number of maps that the finest level reads
        coarser = [min(finest + i, last) for i in range(levels - 1)]  # the map of every other level
        sources, level_strides = [*range(finest), *coarser], [stride * 2**level for level in range(levels)]
        strides = [*[stride] * finest, *level_strides[1:]]
        super().__init__([specs[i] for i in sources], strides, [width] * len(sources))
        self.sources, self.finest, self.level_strides = sources, finest, level_strides

    def forward(self, maps: Sequence[Tensor], valid: Tensor | None) -> list[Tensor]:
        """Return a (B, C, h_i, w_i) for each level; ``valid`` is (B, 1, H, W), per pixel, or None."""
        read = super().forward([maps[i] for i in self.sources], valid)
        finest, coarser = read[: self.finest], read[self.finest :]
        return [sum(finest[1:], start=finest[0]), *coarser]
