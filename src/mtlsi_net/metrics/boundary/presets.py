"""Presets of the boundary protocols behind published numbers (docs/protocol/boundary.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mtlsi_net.core.errors import InputError, choose

HUNDREDTHS = tuple(k / 100 for k in range(1, 100))
HED = (0.001, *HUNDREDTHS, 0.999)
THRESHOLDS: Mapping[Any, tuple[float, ...]] = {"99": HUNDREDTHS, "hed": HED}
CHOICES = {"compare": ("gt", "ge"), "truth": ("boundaries", "boundaries_as_labels", "labels")}


@dataclass(frozen=True)
class Preset:
    """Rules of one boundary protocol.

    Attributes:
        max_dist: largest distance of a match, as a share of the image diagonal.
        nms: suppress non-maxima before thresholds are applied, as SEISM does.
        thin: thin the prediction at every threshold.
        thresholds: rising, in (0, 1).
        compare: a pixel is predicted if it is greater than the threshold (``gt``), or also if it is equal (``ge``).
        truth: what ground-truth pictures hold: ``boundaries``; ``boundaries_as_labels``, passed through seg2bmap and
            thinning as if they were a label map, as SEISM does with NYUDv2's; ``labels``, a map of segments.
        interpolate: also search for the best F between thresholds, and count 0/0 as 0, as BSDS does.
    """

    max_dist: float
    nms: bool
    thin: bool
    thresholds: tuple[float, ...] = field(repr=False)
    compare: Literal["gt", "ge"]
    truth: Literal["boundaries", "boundaries_as_labels", "labels"]
    interpolate: bool = False


PRESETS = {
    "nyud": Preset(0.011, nms=True, thin=True, thresholds=HED, compare="gt", truth="boundaries_as_labels"),
    "pascal": Preset(0.0075, nms=True, thin=True, thresholds=HED, compare="gt", truth="labels"),
    "pascal_mti": Preset(0.0075, nms=False, thin=True, thresholds=HUNDREDTHS, compare="ge", truth="labels"),
    "bsds": Preset(0.0075, False, True, HUNDREDTHS, compare="ge", truth="boundaries", interpolate=True),
    "plain": Preset(0.0075, nms=False, thin=True, thresholds=HUNDREDTHS, compare="ge", truth="boundaries"),
}


def make_preset(name: str, changes: Mapping[str, Any] | None = None) -> Preset:
    """Return a preset, with some of its rules changed.

    Args:
        name: key of ``PRESETS``.
        changes: ``max_dist, nms, thin, compare, truth, thresholds`` (``99``, ``hed`` or a list); None changes nothing.

    Raises:
        InputError: an unknown preset, or a value out of range.
    """
    preset = choose("preset", name, PRESETS)
    wanted = {key: value for key, value in (changes or {}).items() if value is not None}
    if "thresholds" in wanted:
        wanted["thresholds"] = _thresholds(wanted["thresholds"])
    distance = wanted.get("max_dist", preset.max_dist)
    if not isinstance(distance, float | int) or not 0 < distance < 1:
        raise InputError(f"max_dist={distance}: give a share of the image diagonal, such as 0.0075")
    for key in ("nms", "thin"):
        if not isinstance(wanted.get(key, True), bool):
            raise InputError(f"{key}={wanted[key]}: give true or false")
    for key, known in CHOICES.items():
        if key in wanted:
            choose(key, wanted[key], dict.fromkeys(known))
    return replace(preset, **wanted)


def _thresholds(setting: str | int | Sequence[float]) -> tuple[float, ...]:
    if isinstance(setting, str | int):
        return choose("thresholds", str(setting), THRESHOLDS)
    try:
        values = tuple(float(value) for value in setting)
    except (TypeError, ValueError):
        values = ()
    if not values or any(a >= b for a, b in zip((0.0, *values), (*values, 1.0), strict=True)):
        raise InputError(f"thresholds={setting}: give 99, hed, or a list of rising numbers between 0 and 1")
    return values
