"""Sizes of a set of images: what a checkpoint records of the images that it was scored on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class ImageSizes:
    """Sizes of image files with the fewest, the median, and the most pixels."""

    smallest: Size
    median: Size
    largest: Size

    @classmethod
    def of(cls, sizes: Iterable[Size]) -> "ImageSizes":
        """Return the sizes of at least one image."""
        ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        return cls(ordered[0], ordered[len(ordered) // 2], ordered[-1])

    @classmethod
    def load(cls, record: Mapping[str, Sequence[int]]) -> "ImageSizes":
        """Return what ``record`` gave."""
        return cls(**{name: (int(height), int(width)) for name, (height, width) in record.items()})

    def record(self) -> dict[str, Any]:
        """Return plain lists, for checkpoints and JSON."""
        return {name: list(size) for name, size in asdict(self).items()}
