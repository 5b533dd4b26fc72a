"""Input preparation before the encoder: normalisation, padding, and the map of valid pixels."""

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.layers.masking import pad_to_multiple

log = logging.getLogger(__name__)

MUCH = 0.1
"""Share of an image's pixels above which padding is told."""


class Canvas(nn.Module):
    """Normalises images and pads them until the encoder's and the working grid both divide them.

    Args:
        mean: per RGB channel, of values in [0, 1]; kept in checkpoints, as ``std``.
        std: per RGB channel.
        stride: of the working grid.
        mask_padding: report padded positions, so that the decoder ignores them; False (as in the lineage) treats
            padding as image.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        specs: Sequence[FeatureSpec],
        stride: int,
        *,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor
        self.stride = stride
        self.multiple = math.lcm(stride, *(spec.stride for spec in specs))
        self.mask_padding = mask_padding

    def check_size(self, size: Sequence[int]) -> None:
        """Warn if images of (H, W) get much padding, which costs time and memory."""
        padded = [-(-side // self.multiple) * self.multiple for side in size]
        extra = math.prod(padded) / math.prod(size) - 1
        if extra > MUCH:
            near = [max(1, round(side / self.multiple)) * self.multiple for side in size]
            log.warning(
                "images of %dx%d are padded to %dx%d, %d %% more pixels: the strides of encoder and decoder divide only "
                "multiples of %d; a size without padding is %dx%d",
                *(*size, *padded, round(100 * extra), self.multiple, *near),
            )

    def forward(self, image: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the encoder's input (B, 3, H', W') and its valid pixels (B, 1, H', W').

        Args:
            image: (B, 3, H, W), RGB in [0, 1].
            valid: (B, 1, H, W) bool, False on padding; None if all is image.

        Returns:
            The second item is None if all is valid or padding is not to be masked.

        Raises:
            InputError: shapes other than these, or an image of bytes.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise InputError(f"image has shape {tuple(image.shape)}; the network takes (B, 3, H, W)")
        if not image.is_floating_point():
            raise InputError(
                f"image is {image.dtype}; the network takes values in [0, 1]: pass a loader's batch through "
                "data.to_device(batch, device) first"
            )
        if valid is not None and valid.shape != (image.shape[0], 1, *image.shape[2:]):
            raise InputError(f"valid has shape {tuple(valid.shape)}, image {tuple(image.shape)}; pass (B, 1, H, W)")
        padded = pad_to_multiple((image - self.mean) / self.std, self.multiple)
        if not self.mask_padding or (valid is None and padded.shape == image.shape):
            return padded, None
        real = torch.ones_like(image[:, :1], dtype=torch.bool) if valid is None else valid
        return padded, pad_to_multiple(real, self.multiple)
