"""Checks of what a data set's labels hold, shared by verification, training and scoring, and the findings they report."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.decoding import label_values
from mtlsi_net.data.encoding import NYUD, Encoding
from mtlsi_net.data.transforms import Array, Floats

IMPLAUSIBLE_METRES = 100.0
"""Median depth from which labels are taken for other units than metres."""


TOWARDS_CAMERA = 0.1
"""Least -z of a normal that counts as pointing away from the camera: 8 bits hold no 0."""


class Level(IntEnum):
    """How bad a finding is; the worst one is the exit code of verification."""

    NOTE = 0
    DIFFERS = 1
    BROKEN = 2


@dataclass(frozen=True)
class Finding:
    """One sentence about the data, and its severity."""

    level: Level
    text: str


@dataclass
class LabelFacts:
    """Statistics of one task's labels or predictions, for one image or summed over many.

    Attributes:
        images: number of label maps.
        low: least valid value; infinite without valid pixels.
        high: greatest valid value.
        pixels: number of pixels of all maps.
        invalid: number of those that losses and metrics ignore.
        soft: number of pixels of ``binary`` maps other than 0 and 1.
        away: number of normals that point away from the camera.
        histogram: number of pixels of each class of ``classes`` maps.
        stored: type of the values in the files -> number of files.
        medians: of the valid values of each ``scalar`` map that has some.
    """

    images: int = 0
    low: float = np.inf
    high: float = -np.inf
    pixels: int = 0
    invalid: int = 0
    soft: int = 0
    away: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    medians: list[float] = field(default_factory=list)

    @property
    def invalid_share(self) -> float:
        """Share of invalid pixels, in [0, 1]."""
        return self.invalid / self.pixels if self.pixels else 0.0

    @property
    def median(self) -> float | None:
        """Median of the maps' medians, of ``scalar`` maps."""
        return float(np.median(self.medians)) if self.medians else None

    def add(self, other: "LabelFacts") -> None:
        """Add another image's facts."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        for name in ("images", "pixels", "invalid", "soft", "away", "histogram", "stored", "medians"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def describe_label(label: Array, spec: TargetSpec) -> LabelFacts:
    """Return the facts of one untransformed label map, (H, W, C), stored or decoded."""
    return describe_values(label_values(label, spec).numpy(), spec)


def describe_values(planes: Floats, spec: TargetSpec) -> LabelFacts:
    """Return the facts of one map of values, (C, H, W), ``spec.ignore`` or NaN invalid."""
    valid = ((planes != spec.ignore) & ~np.isnan(planes)).all(axis=0)
    values = planes[:, valid]
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    facts = LabelFacts(1, low, high, pixels=valid.size, invalid=int(valid.size - valid.sum()))
    if spec.kind == "binary":
        facts.soft = int(((values != 0) & (values != 1)).sum())
    if spec.kind == "classes":
        counts = np.bincount(values.astype(int).ravel())
        facts.histogram = Counter({index: int(counts[index]) for index in np.flatnonzero(counts).tolist()})
    if spec.kind == "vector":
        facts.away = int((values[2] < -TOWARDS_CAMERA).sum())
    if spec.kind == "scalar" and values.size:
        facts.medians = [float(np.median(values))]
    return facts


def check_training_labels(labels: Mapping[str, LabelFacts]) -> Iterator[Finding]:
    """Find tasks that cannot be trained: without a single valid pixel in the training labels."""
    for name, facts in labels.items():
        if facts.images and facts.invalid == facts.pixels:
            text = f"task {name!r}: the training labels contain no valid pixel ({facts.images} files)"
            remedy = f"check the label files, or leave the task out: ~tasks.{name}"
            yield Finding(Level.BROKEN, f"{text}; {remedy}")


def check_plausible(
    labels: Mapping[str, LabelFacts],
    specs: Mapping[str, TargetSpec],
    names: Mapping[str, Sequence[str]],
    encodings: Mapping[str, Encoding],
) -> Iterator[Finding]:
    """Find labels that can be read, but are probably in another encoding than the settings say; one line for each task.

    Args:
        labels: facts of each task's labels.
        specs: of at least these tasks.
        names: class names of tasks with classes; those without are not checked for them.
        encodings: as which the files were read; NYUDv2's for tasks that are not named.
    """
    for name, facts in labels.items():
        encoding = encodings.get(name, NYUD)
        if (text := _implausible(facts, specs[name], names.get(name, ()), encoding)) is not None:
            yield Finding(Level.DIFFERS, f"{name}: {text}")


def _implausible(facts: LabelFacts, spec: TargetSpec, names: Sequence[str], encoding: Encoding) -> str | None:
    if facts.invalid == facts.pixels:
        return None
    if spec.kind == "scalar":
        return _implausible_depth(facts, encoding)
    if spec.kind == "binary":
        return _implausible_mask(facts, encoding)
    if spec.kind == "vector":
        return _implausible_normals(facts, encoding)
    return _implausible_classes(facts, spec, names, encoding)


def _implausible_depth(facts: LabelFacts, encoding: Encoding) -> str | None:
    if (median := facts.median) is None or median <= IMPLAUSIBLE_METRES:
        return None
    return (
        f"the median depth is {median:.4g} m; if the files hold millimetres, set {encoding.prefix}depth_scale=0.001 "
        "(metres of one stored unit)"
    )


def _implausible_mask(facts: LabelFacts, encoding: Encoding) -> str | None:
    if facts.high == 0:
        return "no pixel is positive"
    most = facts.high * (encoding.binary_max or 255)
    if most > 1.5 or encoding.binary_max == 1:
        return None
    share = f"1/{encoding.binary_max or 255}"
    return f"the largest stored value is 1, a share of {share}; if 1 is positive, set {encoding.prefix}binary_max=1"


def _implausible_normals(facts: LabelFacts, encoding: Encoding) -> str | None:
    if facts.low >= 0:
        return "no component of a normal is negative; floats hold the vectors themselves, only bytes are 127.5 (n + 1)"
    share = facts.away / max(1, facts.pixels - facts.invalid)
    if share <= 0.5 or not encoding.known_axes:
        return None
    return f"{share:.0%} of the normals point away from the camera; expected are x right, y up, z towards the camera"


def _implausible_classes(facts: LabelFacts, spec: TargetSpec, names: Sequence[str], encoding: Encoding) -> str | None:
    """Return what to set if the first or last class never occurs, as a wrong offset causes; None otherwise."""
    if not names or encoding.palette is not None:
        return None
    setting = "one_based=true" if not encoding.prefix else f"{encoding.prefix}zero_based=false"
    if not facts.histogram[0] and 0 not in spec.ignored:
        how = f"; if the files count classes from 1, set {setting}" if encoding.zero_based else ""
        return f"class 0 ({names[0]}) never occurs{how}"
    last = len(names) - 1
    if not encoding.zero_based and facts.invalid and not facts.histogram[last] and last not in spec.ignored:
        setting = "one_based=false" if not encoding.prefix else f"{encoding.prefix}zero_based=true"
        return (
            f"the last class ({names[-1]}) never occurs, but 0 (unlabelled) does; if files count from 0, set {setting}"
        )
    return None
