"""Training pipeline: the protocol's steps as albumentations transforms, with optional extra transforms of the user."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import albumentations as A
import numpy as np

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.transforms import (
    IMAGE,
    IMAGENET_MEAN,
    Distortion,
    Sample,
    Specs,
    crop,
    flip,
    pad,
    photometric,
    scale,
    varied,
    zoom,
)

SCALES = (0.5, 2.0)
CROP_TRIES = 10
ZOOMS = (1.0, 1.2, 1.5)
"""Factors of ``RandomZoom``."""


class Step(A.BasicTransform):  # type: ignore[misc] # shipped without type information
    """An albumentations transform of whole samples (albumentations treats all masks alike, these steps follow each TargetSpec).

    Draws from ``random_generator``; applied with probability ``p``.
    """

    targets: ClassVar[Mapping[str, Any]] = {}  # no method for single arrays

    def __init__(self, specs: Specs, p: float = 1.0) -> None:
        self.specs = dict(specs)
        super().__init__(p=p)

    def _change(self, sample: Sample) -> Sample:
        """Return the sample after this step; the input is not changed."""
        raise NotImplementedError

    def apply_with_params(self, params: dict[str, Any], *args: Any, **sample: Any) -> Sample:  # noqa: ANN401, ARG002 - albumentations' signature
        """Change the sample; albumentations calls this."""
        return self._change(sample)


class RandomScale(Step):
    """Resize by a factor drawn uniformly from ``SCALES``."""

    def _change(self, sample: Sample) -> Sample:
        return scale(sample, self.random_generator.uniform(*SCALES), self.specs)


class RandomCrop(Step):
    """Crop a window of at most ``size``, drawn uniformly.

    It is redrawn, up to ten times, while the map ``guide`` has only one class there or one class covers 75 % of it; with
    None the first window is used.
    """

    def __init__(self, specs: Specs, size: tuple[int, int], guide: str | None) -> None:
        super().__init__(specs)
        self.size, self.guide = size, guide

    def _change(self, sample: Sample) -> Sample:
        return crop(sample, *self._window(sample), *self.size)

    def _window(self, sample: Sample) -> tuple[int, int]:
        slack = [max(have - want, 0) for have, want in zip(sample[IMAGE].shape[:2], self.size, strict=True)]
        window = (0, 0)
        for _ in range(CROP_TRIES + 1):
            top, left = (int(self.random_generator.integers(room + 1)) for room in slack)
            window = top, left
            if self.guide is None or slack == [0, 0]:
                break
            if varied(crop({self.guide: sample[self.guide]}, *window, *self.size)[self.guide], self.specs[self.guide]):
                break
        return window


class RandomZoom(Step):
    """Enlarge a window, drawn uniformly, by a factor of ``ZOOMS`` to the size of the whole image."""

    def _change(self, sample: Sample) -> Sample:
        factor = ZOOMS[int(self.random_generator.integers(len(ZOOMS)))]
        room = [side - int(side / factor) for side in sample[IMAGE].shape[:2]]
        top, left = (int(self.random_generator.integers(most + 1)) for most in room)
        return zoom(sample, factor, top, left, self.specs)


class Flip(Step):
    """Mirror left-right."""

    def _change(self, sample: Sample) -> Sample:
        return flip(sample, self.specs)


class PhotometricDistortion(Step):
    """Change brightness, contrast, saturation and hue, each with probability one half."""

    def _change(self, sample: Sample) -> Sample:
        return {**sample, IMAGE: photometric(sample[IMAGE], draw_distortion(self.random_generator))}


class Pad(Step):
    """Pad and convert to planes; raises a UserError if the user's transforms made the image unusable."""

    def __init__(self, specs: Specs, size: tuple[int, int], color: tuple[float, ...]) -> None:
        super().__init__(specs)
        self.size, self.color = size, color

    def _change(self, sample: Sample) -> Sample:
        image = sample[IMAGE]
        if image.dtype != np.uint8 or image.shape[2:] != (3,):
            raise UserError(
                f"data.extra_augmentations: the transforms returned a {image.dtype} image of shape {image.shape}; it must "
                "stay 8-bit RGB (remove normalisation and conversion: the network normalises its input)"
            )
        return pad(sample, self.size, self.specs, self.color)


class TrainPipeline:
    """Random scale, category-capped crop, flip, photometric distortion, the user's transforms, pad (protocol, 2.1).

    The distributions are the lineage's, the random stream is ours. ``size`` (height, width) is that of windows and padding,
    ``guide`` names the class map that the crop rule reads (None takes the first window), ``color`` (RGB in 0..1) pads the
    image. ``extras`` are image-only albumentations transforms, or compositions of them, on (H, W, 3) uint8 RGB; a UserError
    if one moves pixels.
    """

    def __init__(
        self,
        size: tuple[int, int],
        specs: Specs,
        guide: str | None,
        color: tuple[float, ...] = IMAGENET_MEAN,
        extras: Sequence[Any] = (),
    ) -> None:
        for transform in extras:
            _check_extra(transform)
        self.compose = A.Compose(
            [*self.steps(specs, size, guide), *extras, Pad(specs, size, color)],
            is_check_shapes=False,  # readers have done so, and planes have another layout
        )

    def steps(self, specs: Specs, size: tuple[int, int], guide: str | None) -> list[Step]:
        """Return the protocol's steps before the user's transforms."""
        return [
            RandomScale(specs),
            RandomCrop(specs, size, guide),
            Flip(specs, p=0.5),
            PhotometricDistortion(specs),
        ]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return one augmented sample, as ``pad`` does; all draws come from ``rng``. Not for several threads."""
        augmented: Sample = self.seeded(rng)(**sample)
        return augmented

    def seeded(self, rng: np.random.Generator) -> A.Compose:
        """Return the composition of steps, all of which draw from ``rng``."""
        self.compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        return self.compose


class MtanTrainPipeline(TrainPipeline):
    """Random zoom and flip, as MTAN's successors augment (docs/protocol/mtan.md), then the user's transforms; sizes stay."""

    def steps(self, specs: Specs, size: tuple[int, int], guide: str | None) -> list[Step]:  # noqa: ARG002 - base's signature
        """Return zoom and flip."""
        return [RandomZoom(specs), Flip(specs, p=0.5)]


def _check_extra(transform: object) -> None:
    if isinstance(transform, A.BaseCompose):  # such as ``OneOf``
        for inner in transform:
            _check_extra(inner)
    elif not isinstance(transform, A.ImageOnlyTransform | A.NoOp):
        raise UserError(
            f"data.extra_augmentations: {type(transform).__name__} is not an image-only albumentations transform; "
            "transforms that move pixels would corrupt depth and normals. Scale, crop and flip are in the protocol's pipeline"
        )


def draw_distortion(rng: np.random.Generator) -> Distortion:
    """Draw a distortion: each step is applied with probability one half."""

    def coin() -> bool:
        return bool(rng.random() < 0.5)

    return Distortion(
        brightness=rng.uniform(-32, 32) if coin() else None,
        contrast=rng.uniform(0.5, 1.5) if coin() else None,
        saturation=rng.uniform(0.5, 1.5) if coin() else None,
        hue=int(rng.integers(-18, 18)) if coin() else None,
        contrast_first=coin(),
    )
