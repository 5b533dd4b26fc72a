"""Inspection of one sample's files: statistics of their contents, and errors of unusable ones."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.images import TURNS, stored_size
from mtlsi_net.data.label_checks import LabelFacts, describe_label
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.transforms import IMAGE


@dataclass
class ImageFacts:
    """Facts of one sample's readable files.

    Attributes:
        sample_id: the sample.
        size: (height, width) of the image, upright.
        stored: type of the image.
        turned: whether the image has an EXIF orientation that turns it.
        brightest: largest value of the image, 0 to 255.
        labels: task -> facts of its label.
        errors: one line for each unusable file.
    """

    sample_id: str
    size: tuple[int, int] | None = None
    stored: str = ""
    turned: bool = False
    brightest: int = 0
    labels: dict[str, LabelFacts] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def inspect_sample(reader: SampleReader, sample_id: str) -> ImageFacts:
    """Read all files of one sample; errors are collected, not raised."""
    facts = ImageFacts(sample_id)
    (image_path,) = reader.files(IMAGE, sample_id)
    with suppress(OSError, SyntaxError, ValueError, UserError):  # the reader reports the reason
        (height, width), orientation = stored_size(image_path)
        facts.size, facts.turned = (width, height) if orientation >= 5 else (height, width), orientation in TURNS
    try:
        image = reader.read_image(sample_id)
        facts.size, facts.brightest = (image.shape[0], image.shape[1]), int(image.max())
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


NUMBER_TYPES = {"1": "1-bit", "I": "int32", "F": "float32"}
"""Pillow's mode -> type of the values, where it is not ``uint8`` or ``uint16``."""


def stored_type(path: Path) -> str:
    """Return the type of a readable file's values: ``uint8 RGB``, ``uint16``, ``float32``, ``struct``."""
    if path.suffix == ".npy":
        return str(np.load(path, mmap_mode="r").dtype)
    if path.suffix == ".npz":
        return "npz"
    if path.suffix == ".mat":
        return str(io.whosmat(path)[0][2])
    with Image.open(path) as image:
        return NUMBER_TYPES.get(image.mode, "uint16" if image.mode.startswith("I;16") else f"uint8 {image.mode}")
