"""Transforms of the protocol as functions of explicit parameters; ``augmentation`` draws and composes them.

A sample is ``{"image": (H, W, 3), <task>: (H, W, C)}``. uint8 maps hold values as files store them and stay so to the
end, because they are fast to transfer: image 0..255, classes as they are with 255 invalid, binary ``255 x``, vectors
``127.5 (x + 1)``. float32 maps hold the values themselves (image 0..255; also more than 255 classes). What happens to a
label map is read from its TargetSpec. Steps and order follow docs/protocol/index.md; normalisation is the network's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mtlsi_net.core.types import IGNORE, TargetSpec

Array = NDArray[Any]
"""uint8 or float32."""
Floats = NDArray[np.float32]
Sample = dict[str, Array]
Specs = Mapping[str, TargetSpec]

IMAGE, VALID, PAD_COLOR = "image", "_valid", "_pad_color"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
CROP_MAX_SHARE = 0.75
SHORTEST_NORMAL = 0.5
"""Vectors below this length are no normals."""

BYTES = np.arange(256, dtype=np.float32)


def _resize(array: Array, height: int, width: int, interpolation: int) -> Array:
    resized = cv2.resize(array, (width, height), interpolation=interpolation)
    return resized.reshape(height, width, array.shape[2])


def scale(sample: Sample, factor: float, specs: Specs) -> Sample:
    """Enlarge by ``factor`` (sizes rounded down): image bilinear, labels nearest; depth is divided by the factor.

    An image of bytes is interpolated as floats and truncated, as the lineage does when it comes to the distortion.
    """
    if factor == 1.0:
        return dict(sample)
    height, width = (int(side * factor) for side in sample[IMAGE].shape[:2])
    image = sample[IMAGE]
    larger = _resize(image.astype(np.float32, copy=False), height, width, cv2.INTER_LINEAR)
    scaled = {IMAGE: larger.astype(image.dtype, copy=False)}
    for name, spec in specs.items():
        values = sample[name] / np.float32(factor) if spec.zoom_divides else sample[name]
        scaled[name] = _resize(values, height, width, cv2.INTER_NEAREST)
    return scaled


def zoom(sample: Sample, factor: float, top: int, left: int, specs: Specs) -> Sample:
    """Enlarge the window of 1/``factor`` of each side (rounded down) at ``top``, ``left`` to the size of the whole.

    The augmentation of MTAN's community: image and normals bilinear, corners on corners, all other labels nearest; depth is
    divided by the factor. Ours: bytes are rounded, and normals are unit vectors again, or 0 where shorter than 0.5.
    """
    if factor == 1.0:
        return dict(sample)
    height, width = sample[IMAGE].shape[:2]
    window = crop(sample, top, left, int(height / factor), int(width / factor))
    zoomed = {IMAGE: _stretch(window[IMAGE], height, width)}
    for name, spec in specs.items():
        if spec.kind == "vector":
            zoomed[name] = _unit(_stretch(window[name], height, width))
            continue
        values = window[name] / np.float32(factor) if spec.zoom_divides else window[name]
        zoomed[name] = _resize(values, height, width, cv2.INTER_NEAREST)
    return zoomed


def _stretch(array: Array, height: int, width: int) -> Array:
    """Resize (h, w, C) bilinearly so that the corners' pixels stay in the corners; bytes are rounded."""
    planes = torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float()
    larger = F.interpolate(planes, (height, width), mode="bilinear", align_corners=True)  # OpenCV has no such corners
    values: Array = larger[0].permute(1, 2, 0).contiguous().numpy()
    return values.round().astype(np.uint8) if array.dtype == np.uint8 else values


def _unit(vectors: Array) -> Array:
    """Return float vectors (H, W, 3) with length 1, or 0 where they are shorter than 0.5; bytes as they are."""
    if vectors.dtype == np.uint8:
        return vectors
    lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.where(lengths < SHORTEST_NORMAL, np.float32(0), vectors / np.maximum(lengths, SHORTEST_NORMAL))


def reduce(sample: Sample, factor: float, specs: Specs) -> Sample:
    """Store the sample at a smaller size (our choice, for small runs): image by area, labels nearest, depth unchanged."""
    height, width = (int(side * factor) for side in sample[IMAGE].shape[:2])
    reduced = {IMAGE: _resize(sample[IMAGE].astype(np.float32), height, width, cv2.INTER_AREA)}
    return reduced | {name: _resize(sample[name], height, width, cv2.INTER_NEAREST) for name in specs}


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Crop the window from every map."""
    return {name: array[top : top + height, left : left + width] for name, array in sample.items()}


def varied(classes: Array, spec: TargetSpec | None = None) -> bool:
    """Return whether a class map holds more than one class and none covers 75 % of its labelled pixels.

    Classes that ``spec`` ignores count as unlabelled.
    """
    ignore, ignored = (IGNORE, ()) if spec is None else (spec.ignore, spec.ignored)
    if classes.dtype == np.uint8:
        counts = cv2.calcHist([classes], [0], None, [IGNORE], [0, IGNORE]).ravel()
    else:
        counts = np.bincount(classes.astype(np.int64).ravel(), minlength=ignore)[:ignore]
    counts[list(ignored)] = 0
    return bool(np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < CROP_MAX_SHARE)


def flip(sample: Sample, specs: Specs) -> Sample:
    """Mirror left-right; planes that point sideways change sign (normals' x)."""
    flipped = {name: cv2.flip(array, 1).reshape(array.shape) for name, array in sample.items()}
    for name, spec in specs.items():
        for plane in np.flatnonzero(np.asarray(spec.flip_sign) < 0):
            values = cv2.extractChannel(flipped[name], int(plane))
            cv2.insertChannel(255 - values if values.dtype == np.uint8 else -values, flipped[name], int(plane))
    return flipped


@dataclass(frozen=True)
class Distortion:
    """One photometric distortion; None leaves a step out.

    Brightness and hue (of 180) are added, contrast and saturation multiply; contrast comes before saturation or last.
    """

    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: int | None = None
    contrast_first: bool = True


def photometric(image: Array, by: Distortion) -> NDArray[np.uint8]:
    """Distort an image of 0..255; it is truncated to 8 bits before and after every step, as the lineage does."""
    pixels = image.astype(np.uint8, copy=False)
    if by.brightness is not None:
        pixels = _look_up(pixels, BYTES + np.float32(by.brightness))
    if by.contrast is not None and by.contrast_first:
        pixels = _look_up(pixels, BYTES * np.float32(by.contrast))
    if by.saturation is not None:
        pixels = _look_up_hsv(pixels, 1, BYTES * np.float32(by.saturation))
    if by.hue is not None:
        pixels = _look_up_hsv(pixels, 0, (BYTES + by.hue) % 180)
    if by.contrast is not None and not by.contrast_first:
        pixels = _look_up(pixels, BYTES * np.float32(by.contrast))
    return pixels


def _look_up(pixels: NDArray[np.uint8], table: Floats) -> NDArray[np.uint8]:
    """Return each byte's entry of a table (256,), clipped and truncated."""
    return np.asarray(cv2.LUT(pixels, table.clip(0, 255).astype(np.uint8)), np.uint8)


def _look_up_hsv(pixels: NDArray[np.uint8], channel: int, table: Floats) -> NDArray[np.uint8]:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    cv2.insertChannel(_look_up(cv2.extractChannel(hsv, channel), table), hsv, channel)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _inside(have: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, slice, slice]:
    """Return height and width after padding (have, at least ``size``), and the rows and columns of the image in there."""
    height, width = max(size[0], have[0]), max(size[1], have[1])
    top, left = (height - have[0]) // 2, (width - have[1]) // 2
    return height, width, slice(top, top + have[0]), slice(left, left + have[1])


def _planes(array: Array, size: tuple[int, int], fill: Floats) -> Array:
    """Return (H, W, C) as planes (C, H, W), centred in at least ``size``; values have ``fill`` around, bytes zeros."""
    height, width, rows, columns = _inside(array.shape, size)
    planes = np.empty((array.shape[2], height, width), array.dtype)
    channels = cv2.split(array) if array.shape[2] > 1 else [array[..., 0]]
    for plane, values, around in zip(planes, channels, fill, strict=True):
        if plane.shape != values.shape:
            plane[:] = 0 if array.dtype == np.uint8 else around
        plane[rows, columns] = values
    return planes


def pad(sample: Sample, size: tuple[int, int], specs: Specs, color: tuple[float, ...] = IMAGENET_MEAN) -> Sample:
    """Pad to at least ``size`` and turn into planes; ``decoding`` makes values of bytes (protocol, steps 6 to 8).

    Returns image (3, H, W), uint8 or in 0..1, padded with ``color`` (RGB in 0..1); ``VALID`` (1, H, W) bool, False on
    padding; ``PAD_COLOR`` (3, 1, 1), for where bytes are padded; targets (C, H, W), uint8 or padded with their fill.
    """
    image, around = sample[IMAGE], np.asarray(color, np.float32)
    if image.dtype != np.uint8:
        image = image / np.float32(255)
    height, width, rows, columns = _inside(image.shape, size)
    valid = np.zeros((1, height, width), bool)
    valid[:, rows, columns] = True
    padded = {IMAGE: _planes(image, size, around), VALID: valid, PAD_COLOR: around.reshape(3, 1, 1)}
    return padded | {
        name: _planes(sample[name], size, np.full(spec.channels, spec.fill, np.float32)) for name, spec in specs.items()
    }


@dataclass(frozen=True)
class TestPipeline:
    """Pad; nothing is resized (docs/protocol/index.md). Without draws it needs no albumentations."""

    __test__ = False  # not a test class despite its name

    size: tuple[int, int]
    specs: Specs
    color: tuple[float, ...] = IMAGENET_MEAN

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:  # noqa: ARG002 - same call as TrainPipeline
        """Return the sample as ``pad`` does."""
        return pad(sample, self.size, self.specs, self.color)
