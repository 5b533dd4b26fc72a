"""Types that several packages share: batches, targets, references and predictions.

Shape legend, used in names such as ``x_BTCHW``: B images, T tasks, C channels, H x W input pixels, h x w working grid,
N = h*w positions, K output channels of a task, D heads' dimension, S query scales, M tokens per task.

In a batch every invalid target value is 255, whatever the task (``IGNORE``), but in class maps of more than 255 classes,
in which it is 65535 (``ignore_of``).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import register_dataclass

IGNORE = 255
IGNORE_WIDE = 65535
"""Value of invalid pixels in class maps in which 255 is a class: the greatest that 16 bits hold."""
MOST_CLASSES = 1000


def ignore_of(num_classes: int | None) -> int:
    """Return the value of invalid pixels of a target with so many classes; None: without classes.

    Example:
        >>> ignore_of(40), ignore_of(255), ignore_of(256), ignore_of(None)
        (255, 255, 65535, 255)
    """
    return IGNORE if num_classes is None or num_classes <= IGNORE else IGNORE_WIDE


SUBSET = "subset"
SCORE_GROUPS = ("", "partial", "all", SUBSET)
"""Groups of images that a score with a reference is computed over, as suffixes of its name. In order: the official test
list, or the whole split of a data set without one (main score); the available part of an incomplete official list; all
images of the split if the official list is only a part of it; the few images that estimate the score during training."""


@dataclass(frozen=True)
class FeatureSpec:
    """Channels of an encoder map and its stride with respect to the input."""

    channels: int
    stride: int


@dataclass(frozen=True)
class TargetSpec:
    """Format of a task's label map and how transforms must treat it. Transforms depend on this, never on a task's name.

    Attributes:
        channels: planes of the label map (normals 3, all others 1).
        kind: ``classes`` (integers 0..num_classes-1), ``binary`` ([0, 1]), ``scalar`` (metres), ``vector`` (unit vectors).
        num_classes: of ``classes`` targets, for range checks; None otherwise.
        fill: value given to padded pixels; ``invalid`` then turns it into 255 where it is not 255 already. 255 stands for
            ``ignore``.
        flip_sign: factor of each plane under a horizontal flip (normals: x changes sign).
        zoom_divides: whether enlarging the image by s divides the values by s (depth: objects come nearer).
        invalid: which pixels become 255 after cropping and padding: ``none`` beyond those stored as 255, ``zero``
            (missing depth), ``short_vector`` (length below 0.5: no normal), ``background_only`` (a map without any
            foreground class is unlabelled as a whole: human parts).
        reference: whether scores compare with the label files themselves, at their own size, instead of the transformed
            label map (boundaries: a protocol's truth is not the training label).
        ignored: classes whose pixels count as unlabelled.

    Example:
        >>> depth = TargetSpec(channels=1, kind="scalar", fill=0.0, zoom_divides=True, invalid="zero")
        >>> depth.channels, depth.kind
        (1, 'scalar')
    """

    channels: int
    kind: Literal["classes", "binary", "scalar", "vector"]
    num_classes: int | None = None
    fill: float = float(IGNORE)
    flip_sign: tuple[float, ...] = (1.0,)
    zoom_divides: bool = False
    invalid: Literal["none", "zero", "short_vector", "background_only"] = "none"
    reference: bool = False
    ignored: tuple[int, ...] = field(
        default=(), repr=False
    )  # files' maps, which are cached by repr, do not depend on it

    def __post_init__(self) -> None:
        if self.fill == IGNORE != self.ignore:
            object.__setattr__(self, "fill", float(self.ignore))

    @property
    def ignore(self) -> int:
        """Value of invalid pixels."""
        return ignore_of(self.num_classes)

    @property
    def wide(self) -> bool:
        """Whether class numbers need more than a byte: stored maps and predictions then have another type."""
        return self.ignore != IGNORE


class Reference(NamedTuple):
    """Ground truth for scoring one sample's boundaries; a plain tuple, so that data loaders can pass it on.

    maps: (A, H, W) integers of A annotators, at the size of the files; none if the sample has no label.
    kind: ``boundaries`` (0 to 255, boundary from 128 on) or ``labels`` (segment numbers).
    groups: the ``SCORE_GROUPS`` in which the sample counts.
    """

    maps: NDArray[np.integer[Any]]
    kind: Literal["boundaries", "labels"]
    groups: tuple[str, ...] = ("",)


def score_name(metric: str, group: str) -> str:
    """Return the name of a metric taken over one of ``SCORE_GROUPS``."""
    return f"{metric}_{group}" if group else metric


class Batch(TypedDict):
    """A batch as modules take it. Loaders yield stored bytes; the data module's hook makes values of them.

    image: (B, 3, H, W) float32 RGB in [0, 1], not normalised; padding holds the mean colour.
    valid: (B, 1, H, W) bool, False on padding.
    id: B sample ids.
    targets: task name -> (B, TargetSpec.channels, H, W) float32, ``TargetSpec.ignore`` where invalid.
    references: task name -> B references, of tasks whose TargetSpec asks for them; evaluation only.
    labelled: task name -> ``count_labels`` of this process's whole share of the step, if the batch is a part of it.
    pad_color: (B, 3, 1, 1), of loaders only: the image's value on padding, where bytes hold 0.
    """

    image: Tensor
    valid: Tensor
    id: list[str]
    targets: dict[str, Tensor]
    references: dict[str, list[Reference]]
    labelled: NotRequired[dict[str, Tensor]]
    pad_color: NotRequired[Tensor]


def count_labels(target: Tensor, ignore: int = IGNORE) -> Tensor:
    """Return the counts, (2,) int64, that losses divide by, for a target (B, C, H, W), ``ignore`` where invalid.

    They are the number of valid pixels, and of those above 0.5 in the first channel: the positives of a binary label.
    """
    valid = (target != ignore).all(dim=1)
    return torch.stack([valid.sum(), (valid & (target[:, 0] > 0.5)).sum()])


def cut_batch(batch: Batch, part: slice) -> Batch:
    """Return a part of a batch's samples as a batch; counts of labels stay those of the whole."""
    cut: Batch = {
        "image": batch["image"][part],
        "valid": batch["valid"][part],
        "id": batch["id"][part],
        "targets": {name: target[part] for name, target in batch["targets"].items()},
        "references": {name: references[part] for name, references in batch["references"].items()},
    }
    if "pad_color" in batch:
        cut["pad_color"] = batch["pad_color"][part]
    if "labelled" in batch:
        cut["labelled"] = batch["labelled"]
    return cut


@dataclass
class Prediction:
    """Output of every network.

    Attributes:
        final: task name -> raw outputs (logits; metres; unnormalised normals), (B, K, H, W) at input size.
        aux: preliminary raw outputs, one dictionary per scale, each task name -> (B, K, h, w) at a stride of the network's
            choice; empty if the network has none.
        regularisers: name -> scalar added to the training loss as it is; empty for most networks.
    """

    final: dict[str, Tensor]
    aux: list[dict[str, Tensor]] = field(default_factory=list)
    regularisers: dict[str, Tensor] = field(default_factory=dict)


register_dataclass(Prediction)  # so that networks can be exported
