"""The protocol's train and test transforms, each step a function of explicit parameters.

A sample is ``{"image": (H, W, 3) float32 in 0..255, <task>: (H, W, C) float32}``. What happens to a label map is read
from its TargetSpec. Steps and order follow section 2 of the protocol page; normalisation is the network's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtlsi_net.specs import IGNORE, TargetSpec

Array = NDArray[np.float32]
Sample = dict[str, Array]
Specs = Mapping[str, TargetSpec]

IMAGE = "image"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
MIN_NORMAL_LENGTH = 0.5
CROP_TRIES = 10
CROP_MAX_SHARE = 0.75


def _resize(array: Array, height: int, width: int, interpolation: int) -> Array:
    channels = array.shape[2]
    resized: Array = cv2.resize(array, (width, height), interpolation=interpolation).reshape(height, width, channels)
    return resized


def scale(sample: Sample, factor: float, specs: Specs) -> Sample:
    """Enlarge by ``factor`` (sizes rounded down): image bilinear, labels nearest; depth is divided by the factor."""
    if factor == 1.0:
        return dict(sample)
    height, width = (int(side * factor) for side in sample[IMAGE].shape[:2])
    scaled = {IMAGE: _resize(sample[IMAGE], height, width, cv2.INTER_LINEAR)}
    for name, spec in specs.items():
        scaled[name] = _resize(sample[name], height, width, cv2.INTER_NEAREST)
        if spec.zoom_divides:
            scaled[name] /= np.float32(factor)
    return scaled


def reduce(sample: Sample, factor: float, specs: Specs) -> Sample:
    """Store the sample at a smaller size (our choice, for small runs): image by area, labels nearest, depth unchanged."""
    height, width = (int(side * factor) for side in sample[IMAGE].shape[:2])
    reduced = {IMAGE: _resize(sample[IMAGE], height, width, cv2.INTER_AREA)}
    return reduced | {name: _resize(sample[name], height, width, cv2.INTER_NEAREST) for name in specs}


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Cut the window out of every map."""
    return {name: array[top : top + height, left : left + width] for name, array in sample.items()}


def flip(sample: Sample, specs: Specs) -> Sample:
    """Mirror left-right; planes that point sideways change sign (normals' x)."""
    flipped = {IMAGE: sample[IMAGE][:, ::-1]}
    for name, spec in specs.items():
        sign = np.asarray(spec.flip_sign, dtype=np.float32)
        flipped[name] = sample[name][:, ::-1] * sign if (sign < 0).any() else sample[name][:, ::-1]
    return flipped


@dataclass(frozen=True)
class Distortion:
    """Parameters of one photometric distortion; None means the step does not fire.

    brightness is added; contrast and saturation multiply; hue (of 180) is added; contrast_first puts contrast before
    saturation and hue, otherwise it comes last.
    """

    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: int | None = None
    contrast_first: bool = True


def photometric(image: Array, by: Distortion) -> Array:
    """Distort an image of 0..255; it is truncated to 8 bits before and after every step, as the lineage does."""
    pixels = image.astype(np.uint8)

    def linear(values: NDArray[np.uint8], gain: float | None, offset: float | None) -> NDArray[np.uint8]:
        if gain is None and offset is None:
            return values
        changed = values.astype(np.float32) * np.float32(1 if gain is None else gain) + np.float32(offset or 0)
        return changed.clip(0, 255).astype(np.uint8)

    pixels = linear(pixels, None, by.brightness)
    if by.contrast_first:
        pixels = linear(pixels, by.contrast, None)
    if by.saturation is not None:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = linear(hsv[..., 1], by.saturation, None)
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.uint8)
    if by.hue is not None:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + by.hue) % 180
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.uint8)
    if not by.contrast_first:
        pixels = linear(pixels, by.contrast, None)
    return pixels.astype(np.float32)


def pad(sample: Sample, height: int, width: int, specs: Specs, color: tuple[float, ...] = IMAGENET_MEAN) -> Sample:
    """Pad to at least (height, width), centred; ``color`` (in 0..1) for the image, each target's own fill."""
    down, right = (max(side - have, 0) for side, have in zip((height, width), sample[IMAGE].shape[:2], strict=True))
    top, left = down // 2, right // 2
    widths = ((top, down - top), (left, right - left), (0, 0))

    def fill(array: Array, value: Array | float) -> Array:
        padded = np.empty((array.shape[0] + down, array.shape[1] + right, array.shape[2]), np.float32)
        padded[:] = value
        padded[top : top + array.shape[0], left : left + array.shape[1]] = array
        return padded

    if not any(map(sum, widths)):
        return dict(sample)
    padded = {IMAGE: fill(sample[IMAGE], np.asarray(color, np.float32) * 255)}
    return padded | {name: fill(sample[name], spec.fill) for name, spec in specs.items()}


def _short_vectors(target: Array) -> NDArray[np.bool_]:
    short: NDArray[np.bool_] = np.square(target).sum(axis=2, keepdims=True) < MIN_NORMAL_LENGTH**2
    return short


def _background_only(target: Array) -> NDArray[np.bool_]:
    return np.broadcast_to(not ((target > 0) & (target != IGNORE)).any(), target.shape)


_INVALID = {
    "none": lambda target: np.zeros((1, 1, 1), bool),  # noqa: ARG005 - one signature for all rules
    "zero": lambda target: target == 0,
    "short_vector": _short_vectors,
    "background_only": _background_only,
}


def mark_invalid(sample: Sample, specs: Specs) -> Sample:
    """Set to 255 what each target's ``invalid`` rule calls invalid."""
    marked = {IMAGE: sample[IMAGE]}
    for name, spec in specs.items():
        marked[name] = np.where(_INVALID[spec.invalid](sample[name]), np.float32(IGNORE), sample[name])
    return marked


@dataclass(frozen=True)
class TestPipeline:
    """Pad and mark; nothing is resized (protocol page, section 2.2)."""

    __test__ = False  # not a test class, whatever its name

    size: tuple[int, int]
    specs: Specs
    color: tuple[float, ...] = IMAGENET_MEAN

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:  # noqa: ARG002 - same call as TrainPipeline
        """Return the sample padded to ``size``."""
        return mark_invalid(pad(sample, *self.size, self.specs, self.color), self.specs)


@dataclass(frozen=True)
class TrainPipeline:
    """Random scale, category-capped crop, flip, photometric distortion, pad, mark (protocol page, section 2.1).

    ``guide`` names the class map that the crop rule reads: a window is redrawn, up to ten times, while it shows one
    class only or one class covers 75 % of it; None takes the first window. The distributions are the lineage's, the
    random stream is ours.
    """

    size: tuple[int, int]
    specs: Specs
    guide: str | None
    color: tuple[float, ...] = IMAGENET_MEAN
    scales: tuple[float, float] = (0.5, 2.0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return one augmented sample of at least ``size``; all draws come from ``rng``."""
        sample = scale(sample, rng.uniform(*self.scales), self.specs)
        sample = crop(sample, *self._window(sample, rng), *self.size)
        if rng.random() < 0.5:
            sample = flip(sample, self.specs)
        sample[IMAGE] = photometric(sample[IMAGE], draw_distortion(rng))
        return mark_invalid(pad(sample, *self.size, self.specs, self.color), self.specs)

    def _window(self, sample: Sample, rng: np.random.Generator) -> tuple[int, int]:
        slack = [max(have - want, 0) for have, want in zip(sample[IMAGE].shape[:2], self.size, strict=True)]
        window = (0, 0)
        for _ in range(CROP_TRIES + 1):
            window = (int(rng.integers(slack[0] + 1)), int(rng.integers(slack[1] + 1)))
            if self.guide is None or slack == [0, 0]:
                break
            if varied(crop({self.guide: sample[self.guide]}, *window, *self.size)[self.guide]):
                break
        return window


def varied(classes: Array) -> bool:
    """Whether a class map holds more than one class and none covers 75 % of its labelled pixels."""
    counts = np.bincount(classes[classes != IGNORE].astype(np.int64).ravel())
    counts = counts[counts > 0]
    return len(counts) > 1 and bool(counts.max() / counts.sum() < CROP_MAX_SHARE)


def draw_distortion(rng: np.random.Generator) -> Distortion:
    """Draw a distortion: each step fires with probability one half."""

    def coin() -> bool:
        return bool(rng.random() < 0.5)

    return Distortion(
        brightness=rng.uniform(-32, 32) if coin() else None,
        contrast=rng.uniform(0.5, 1.5) if coin() else None,
        saturation=rng.uniform(0.5, 1.5) if coin() else None,
        hue=int(rng.integers(-18, 18)) if coin() else None,
        contrast_first=coin(),
    )
