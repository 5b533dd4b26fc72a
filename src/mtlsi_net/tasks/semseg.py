"""Tasks with class maps: semantic segmentation and human parts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.class_sets import class_indices, class_names, class_palette
from mtlsi_net.metrics.mtan import MtanSegmentationMetric, mtan_rules
from mtlsi_net.metrics.segmentation import SegmentationMetric
from mtlsi_net.tasks.base import Confusion, Task, count_classes
from mtlsi_net.tasks.colors import Legend, class_legend, color_classes
from mtlsi_net.tasks.losses import cross_entropy_loss


class SemsegTask(Task):
    """Semantic segmentation.

    Args:
        classes: a standard set's name (``nyud40``, ``voc21``, ``parts7``) or class names in the order of the labels.
        scored_classes: names of the classes that mIoU averages; all if None (paper).
        ignore_classes: names of classes whose pixels count as unlabelled, in training and in scores, and which are never
            predicted; the numbers in files and the outputs of the network stay as they are.
        class_weights: how much a pixel counts in the loss: name of its class -> weight, 1 where not named; or by frequency
            in the training labels, ``median_frequency`` (median / frequency: Eigen and Fergus, ICCV 2015) or ``inverse_log``
            (1 / ln(1.02 + frequency): ENet, Paszke et al. 2016). None: all alike.
        mtan_batch: images of a batch in averages over batches, see ``metrics.mtan``; None: no such averages.

    Raises:
        InputError: unknown set or class name (the nearest ones are named), repeated or too few names, weights that are
            negative, or all 0.
    """

    main_metric = "mIoU"
    higher_is_better = True

    def __init__(
        self,
        classes: str | Sequence[str],
        scored_classes: Sequence[str] | None = None,
        ignore_classes: Sequence[str] | None = None,
        class_weights: Mapping[str, float] | Literal["median_frequency", "inverse_log"] | None = None,
        mtan_batch: PositiveInt | None = None,
    ) -> None:
        self.class_names = class_names(classes)
        self.mtan_batch = mtan_batch
        self.channels = len(self.class_names)
        self.ignored = class_indices(ignore_classes, self.class_names, "ignore_classes") if ignore_classes else []
        self.kept = [index for index in range(len(self.class_names)) if index not in self.ignored]
        if len(self.kept) < 2:
            raise InputError(
                f"ignore_classes={list(ignore_classes or ())} leaves {len(self.kept)} classes; keep at least 2"
            )
        self.scored = _scored(scored_classes, self.class_names, self.ignored)
        self.palette = class_palette(self.class_names)
        self.target = TargetSpec(channels=1, kind="classes", num_classes=self.channels, ignored=tuple(self.ignored))
        self.class_weights = class_weights
        self.weight: Tensor | None = None
        if isinstance(class_weights, Mapping):
            self.weight = named_weights(class_weights, self.class_names)
        elif class_weights is not None:
            choose("class_weights", class_weights, WEIGHTINGS)

    def set_prior(self, prior: Tensor) -> None:
        """Compute the weights of classes from their frequencies, if they shall depend on them."""
        if isinstance(self.class_weights, str):
            self.weight = WEIGHTINGS[self.class_weights](prior.double().exp().cpu(), self.kept).float()

    def _allowed(self, output: Tensor) -> Tensor:
        """Return raw outputs (B, K, h, w) in which no ignored class is probable."""
        if not self.ignored:
            return output
        never = torch.zeros(len(self.class_names), dtype=torch.bool)
        never[self.ignored] = True
        return output.masked_fill(never.to(output.device).view(1, -1, 1, 1), float("-inf"))

    def loss(self, output: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy over valid pixels, each weighted by its class's weight, if there are any."""
        weight = None if self.weight is None else self.weight.to(output.device)
        return cross_entropy_loss(self._allowed(output), target, labelled, weight)

    def new_metric(self, estimate: bool = False) -> SegmentationMetric:  # noqa: ARG002 - fast enough as it is
        """Return mIoU (main), mIoU_present and pixel_accuracy; with ``mtan_batch`` also MTAN's averages."""
        if self.mtan_batch is not None:
            return MtanSegmentationMetric(len(self.class_names), self.scored, self.mtan_batch)
        return SegmentationMetric(len(self.class_names), self.scored)

    def variant(self) -> dict[str, Any]:
        """Return the pooling, how many classes there are and how many of them mIoU averages, and those ignored, if any."""
        classes = len(self.class_names)
        scored = classes if self.scored is None else len(self.scored)
        rules = {"pooled_over": "pixels", "classes": classes, "mIoU_classes": scored, "absent_class": 0.0}
        rules |= mtan_rules(self.mtan_batch, {"mIoU": True, "pixel_accuracy": True})
        return rules | ({"ignored": [self.class_names[index] for index in self.ignored]} if self.ignored else {})

    def class_scores(self, metric: Metric) -> dict[str, dict[str, float]]:
        """Return class name -> IoU (0 for a class seen nowhere) and labelled pixels, without ignored classes."""
        assert isinstance(metric, SegmentationMetric)
        with metric.sync_context():  # sums the counts of all processes
            iou, pixels = metric.per_class().tolist(), metric.confusion.sum(1).tolist()
        return {self.class_names[index]: {"IoU": iou[index], "pixels": float(pixels[index])} for index in self.kept}

    def confusion(self, metric: Metric) -> Confusion:
        """Return the confusion matrix, without ignored classes."""
        assert isinstance(metric, SegmentationMetric)
        with metric.sync_context():
            counts = metric.confusion.cpu().numpy().copy()  # later updates change the state
        return Confusion(tuple(self.class_names[index] for index in self.kept), counts[np.ix_(self.kept, self.kept)])

    def activate(self, output: Tensor) -> Tensor:
        """Return class probabilities."""
        return self._allowed(output).softmax(dim=1)

    def postprocess(self, output: Tensor) -> Tensor:
        """Return the most probable class, (B, 1, H, W) int64."""
        return largest_channel(self._allowed(output))

    def colorize(self, value: Tensor) -> NDArray[np.uint8]:
        """Return a class map in the class set's colours."""
        return color_classes(value, self.palette)

    def legend(self, value: Tensor) -> Legend:
        """Return the classes of the map, the largest first."""
        return class_legend(value, self.class_names, self.palette)

    def statistics(self, target: Tensor) -> Tensor:
        """Return the pixels of each class, (K,)."""
        return count_classes(target, len(self.class_names))

    def prior(self, statistics: Tensor) -> Tensor:
        """Return log class frequencies; its post-processed form is the most frequent class."""
        return self._log_frequencies(statistics)


def largest_channel(output: Tensor) -> Tensor:
    """Return the channel of the largest value, the first of equal ones, (B, 1, H, W) int64, of (B, K, H, W) floats.

    What ``argmax(dim=1, keepdim=True)`` is, many times faster on a CPU, where torch's is slow over any but the last axis.
    """
    if output.device.type != "cpu" or output.dtype != torch.float32 or torch.compiler.is_compiling():
        return output.argmax(dim=1, keepdim=True)
    output, count = output.detach(), output.shape[1]
    equal = np.equal(output.numpy(), output.amax(dim=1, keepdim=True).numpy())  # torch compares at half the speed
    places = torch.arange(count, 0, -1, dtype=torch.uint8 if count <= 255 else torch.int16)
    place = (torch.from_numpy(equal).view(torch.uint8) * places.view(1, -1, 1, 1)).amax(dim=1, keepdim=True)
    if not place.all():  # NaN equals nothing
        return output.argmax(dim=1, keepdim=True)
    return count - place.long()


def _scored(scored: Sequence[str] | None, names: Sequence[str], ignored: Sequence[int]) -> list[int] | None:
    """Return the classes that mIoU averages; None for all of them."""
    if scored is None:
        return [index for index in range(len(names)) if index not in ignored] if ignored else None
    indices = class_indices(scored, names)
    if both := [names[index] for index in indices if index in ignored]:
        raise InputError(f"scored_classes: {', '.join(both)} cannot be scored, since ignore_classes names them too")
    return indices


def named_weights(weights: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Return each class's weight (K,), 1 where ``weights`` does not name it.

    Raises:
        InputError: an unknown class, or weights that are negative, not finite, or all 0.
    """
    values = torch.ones(len(names))
    for name, weight in weights.items():
        (index,) = class_indices([name], names, "class_weights")
        values[index] = weight
    if not (values.isfinite().all() and (values >= 0).all() and values.any()):
        raise InputError(f"class_weights={dict(weights)} must be at least 0, and not all 0")
    return values


def median_frequency(frequencies: Tensor, kept: Sequence[int]) -> Tensor:
    """Return the median of the kept classes' frequencies over each class's own (K,)."""
    return frequencies[list(kept)].median() / frequencies


def inverse_log(frequencies: Tensor, kept: Sequence[int]) -> Tensor:  # noqa: ARG001 - of one kind of functions
    """Return 1 / ln(1.02 + frequency) of each class (K,)."""
    return 1 / (1.02 + frequencies).log()


WEIGHTINGS: Mapping[str, Callable[[Tensor, Sequence[int]], Tensor]] = {
    function.__name__: function for function in (median_frequency, inverse_log)
}
"""Name -> weights of classes (K,) from their frequencies, which are at least ``RAREST``, and the classes not ignored."""


class HumanPartsTask(SemsegTask):
    """Human parts: a class map that is unlabelled as a whole where no person shows.

    Args:
        classes: as in ``SemsegTask``.

    Raises:
        InputError: as in ``SemsegTask``.
    """

    def __init__(self, classes: str | Sequence[str] = "parts7") -> None:
        super().__init__(classes)
        self.target = TargetSpec(channels=1, kind="classes", num_classes=self.channels, invalid="background_only")
