"""Scale at which a network sees an image: that of the images it was evaluated on, whatever the file's number of pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtlsi_net.core.image_sizes import Size

if TYPE_CHECKING:
    from mtlsi_net.inference.exported import OnnxModel
    from mtlsi_net.inference.model import Model

ALIKE = 1.05
"""Factor by which an image's sides may differ from those of evaluated images (geometric mean) to be treated as one of them."""
LONGEST = 4
"""Longest side of a resized panorama, in longest sides of an evaluated image: what would be longer is reduced further."""
AS_EVALUATED = "processed as in evaluation"


@dataclass(frozen=True)
class Scale:
    """How an image is brought to the network.

    Attributes:
        factor: of the image's sides.
        native: factor that evaluation applies to every image (``data.scale``).
        words: what is done, such as ``processed as in evaluation``.
    """

    factor: float
    native: float
    words: str = AS_EVALUATED

    @property
    def zoom(self) -> float:
        """How many times larger an object appears in windows at full resolution than in this view."""
        return self.native / self.factor


def view_scale(model: "Model | OnnxModel", size: Sequence[int], wanted: str | Sequence[int] | None = None) -> Scale:
    """Return the scale for an image of ``size``, (height, width).

    Images of about the evaluated sizes, and all if ``wanted`` is ``original``, are treated as in evaluation. Others are
    resized to the number of pixels of the median evaluated image, or of ``wanted``. Without a record of the evaluated
    sizes, images beyond the training size are reduced to fit into it.
    """
    native, known = model.scale, model.evaluated
    if wanted == "original":
        return Scale(native, native)
    if wanted is not None and not isinstance(wanted, str):
        return _resized(size, wanted, native)
    if known is None:
        fitting = min(side / own for side, own in zip(model.size, size, strict=True))
        words = "reduced to fit into the training size {}x{}".format(*model.size)
        return Scale(fitting, native, words) if fitting < native else Scale(native, native)
    least, most = math.prod(known.smallest) / ALIKE**2, math.prod(known.largest) * ALIKE**2
    if least <= math.prod(size) <= most:
        return Scale(native, native)
    return _resized(size, known.median, native)


def _resized(size: Sequence[int], wanted: Sequence[int], native: float) -> Scale:
    """Return the scale that gives an image as many pixels as one of the ``wanted`` (height, width) has in evaluation."""
    factor = min(math.sqrt(math.prod(wanted) / math.prod(size)), LONGEST * max(wanted) / max(size))
    change = "reduced" if factor < 1 else "enlarged"
    return Scale(native * factor, native, f"{change} to about {wanted[0]}x{wanted[1]} pixels")


def window_size(model: "Model", size: Sequence[int]) -> Size:
    """Return height and width, in the file's pixels, of windows: of the median evaluated image, turned as the image is.

    Without a record of the evaluated sizes it is the training size.
    """
    height, width = model.evaluated.median if model.evaluated else (int(side / model.scale) for side in model.size)
    if (height < width and size[0] > size[1]) or (height > width and size[0] < size[1]):
        height, width = width, height
    return min(height, size[0]), min(width, size[1])
