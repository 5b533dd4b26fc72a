"""Inspection of one sample's files: statistics of their contents, and errors of unusable ones."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import IGNORE, TargetSpec
from mtlsi_net.data.decoding import label_values
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.transforms import IMAGE, Array


@dataclass
class LabelFacts:
    """Statistics of one task's labels, for one image or summed over many.

    Attributes:
        images: number of label maps.
        low: least valid value; infinite without valid pixels.
        high: greatest valid value.
        pixels: number of pixels of all maps.
        invalid: number of those that losses and metrics ignore.
        soft: number of pixels of ``binary`` maps other than 0 and 1.
        histogram: number of pixels of each class of ``classes`` maps.
        stored: type of the values in the files -> number of files.
    """

    images: int = 0
    low: float = np.inf
    high: float = -np.inf
    pixels: int = 0
    invalid: int = 0
    soft: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)

    @property
    def invalid_share(self) -> float:
        """Share of invalid pixels, in [0, 1]."""
        return self.invalid / self.pixels if self.pixels else 0.0

    def add(self, other: "LabelFacts") -> None:
        """Add another image's facts."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        for name in ("images", "pixels", "invalid", "soft", "histogram", "stored"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class ImageFacts:
    """Facts of one sample's readable files: (height, width) and type of the image, and its labels.

    ``errors`` has one line for each unusable file.
    """

    sample_id: str
    size: tuple[int, int] | None = None
    stored: str = ""
    labels: dict[str, LabelFacts] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def inspect_sample(reader: SampleReader, sample_id: str) -> ImageFacts:
    """Read all files of one sample; errors are collected, not raised."""
    facts = ImageFacts(sample_id)
    (image_path,) = reader.files(IMAGE, sample_id)
    try:
        with Image.open(image_path) as image:
            facts.size = image.height, image.width
    except (OSError, SyntaxError, ValueError):
        pass  # the reader reports the reason
    try:
        reader.read_image(sample_id)
    except UserError as error:
        facts.errors.append(str(error))
    if facts.size is None:
        return facts
    facts.stored = stored_type(image_path)
    for name, spec in reader.specs.items():
        try:
            label = reader.read_target(name, sample_id, facts.size)
        except UserError as error:
            facts.errors.append(str(error))
            continue
        facts.labels[name] = describe_label(label, spec)
        facts.labels[name].stored[stored_type(reader.files(name, sample_id)[0])] += 1
    return facts


def describe_label(label: Array, spec: TargetSpec) -> LabelFacts:
    """Return the facts of one untransformed label map, (H, W, C), stored or decoded."""
    planes = label_values(label, spec).numpy()
    valid = (planes != IGNORE).all(axis=0)
    values = planes[:, valid]
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    facts = LabelFacts(1, low, high, pixels=valid.size, invalid=int(valid.size - valid.sum()))
    if spec.kind == "binary":
        facts.soft = int(((values != 0) & (values != 1)).sum())
    if spec.kind == "classes":
        counts = np.bincount(values.astype(int).ravel())
        facts.histogram = Counter({index: int(counts[index]) for index in np.flatnonzero(counts).tolist()})
    return facts


def stored_type(path: Path) -> str:
    """Return the type of a readable file's values: ``uint8 RGB``, ``float32``, ``struct``."""
    if path.suffix == ".npy":
        return str(np.load(path, mmap_mode="r").dtype)
    if path.suffix == ".mat":
        return str(io.whosmat(path)[0][2])
    with Image.open(path) as image:
        return f"uint8 {image.mode}"
