"""The types that cross package boundaries.

Shape legend, used in names such as ``x_BTCHW``: B images, T tasks, C channels, H x W input pixels, h x w working grid,
N = h*w positions, K output channels of a task, D heads' dimension, S query scales, M tokens per task.

In a batch every invalid target value is 255, whatever the task (``IGNORE``).
"""

from dataclasses import dataclass, field
from typing import Literal, TypedDict

from torch import Tensor
from torch.export import register_dataclass

IGNORE = 255


@dataclass(frozen=True)
class FeatureSpec:
    """One encoder map: its channels and its stride with respect to the input, both in the usual sense."""

    channels: int
    stride: int


@dataclass(frozen=True)
class TargetSpec:
    """What a task's label map is and what the transforms must do to it. Transforms read this, never a task's name.

    Attributes:
        channels: planes of the label map (normals 3, all others 1).
        kind: ``classes`` (integers 0..num_classes-1), ``binary`` ([0, 1]), ``scalar`` (metres), ``vector`` (unit vectors).
        num_classes: of ``classes`` targets, for range checks; None otherwise.
        fill: value given to padded pixels; ``invalid`` then turns it into 255 where it is not 255 already.
        flip_sign: factor of each plane under a horizontal flip (normals: x changes sign).
        zoom_divides: whether enlarging the image by s divides the values by s (depth: things come nearer).
        invalid: which pixels become 255 after cropping and padding: ``none`` beyond those stored as 255, ``zero``
            (missing depth), ``short_vector`` (length below 0.5: no normal), ``background_only`` (a map without any
            foreground class is unlabelled as a whole: human parts).
    """

    channels: int
    kind: Literal["classes", "binary", "scalar", "vector"]
    num_classes: int | None = None
    fill: float = float(IGNORE)
    flip_sign: tuple[float, ...] = (1.0,)
    zoom_divides: bool = False
    invalid: Literal["none", "zero", "short_vector", "background_only"] = "none"


class Batch(TypedDict):
    """What loaders yield and modules take.

    image: (B, 3, H, W) float32 RGB in [0, 1], not normalised; padding holds the mean colour.
    valid: (B, 1, H, W) bool, False on padding.
    id: B sample ids.
    targets: task name -> (B, TargetSpec.channels, H, W) float32, 255 where invalid.
    """

    image: Tensor
    valid: Tensor
    id: list[str]
    targets: dict[str, Tensor]


@dataclass
class Prediction:
    """What every network returns.

    Attributes:
        final: task name -> raw outputs (logits; metres; unnormalised normals), (B, K, H, W) at input size.
        aux: task name -> preliminary raw outputs (B, K, h, w) at the network's working stride; empty without any.
    """

    final: dict[str, Tensor]
    aux: dict[str, Tensor] = field(default_factory=dict)


register_dataclass(Prediction)  # so that networks can be exported
