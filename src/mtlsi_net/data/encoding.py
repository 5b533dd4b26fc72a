"""Encoding of label files: what stored values mean, where a data set's files differ from NYUDv2's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtlsi_net.core.errors import UserError

VOID = ("void", "ignore", "unlabelled", "unlabeled")
"""Names of colours that mark unlabelled pixels."""

NO_CLASS = -1
"""What a palette has for colours of unlabelled pixels."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Encoding:
    """What the values in label files mean; the defaults are NYUDv2's encoding (docs/protocol/nyudv2.md).

    Attributes:
        depth_scale: metres of one stored unit (0.001: millimetres); None: files hold metres.
        zero_based: class values are 0, 1, ..., and 255, 65535 or -1 marks unlabelled pixels, but 255 is a class where there
            are so many; else 1, 2, ..., and 0 does.
        palette: colour -> class, ``NO_CLASS`` unlabelled, of masks in which colours stand for classes; None: values do.
        binary_max: stored value of a positive pixel; None: the largest of its type, 255 in a byte.
        fixed: whether the layout says how labels are stored, so that messages name no setting for it.
        known_axes: whether normals are known to have x right, y up, z towards the camera; else this is not checked.
        prefix: of these names where a command takes them as settings.
    """

    depth_scale: float | None = None
    zero_based: bool = False
    palette: Mapping[Color, int] | None = None
    binary_max: int | None = None
    fixed: bool = False
    known_axes: bool = True
    prefix: str = "data."

    def __post_init__(self) -> None:
        if self.depth_scale is not None and not 0 < self.depth_scale < float("inf"):
            raise UserError(
                f"{self.prefix}depth_scale={self.depth_scale}; give the metres of one stored unit, e.g. 0.001"
            )
        if self.binary_max is not None and self.binary_max < 1:
            raise UserError(
                f"{self.prefix}binary_max={self.binary_max}; give the stored value of a positive pixel, e.g. 1"
            )


NYUD = Encoding()


def read_palette(path: Path, prefix: str = "data.") -> dict[Color, int]:
    """Return colour -> class of a text file with one ``R G B`` or ``#RRGGBB`` a line, in the order of the task's classes.

    A name may follow; colours called void, ignore or unlabelled become ``NO_CLASS`` and may stand anywhere, as may empty
    lines.

    Raises:
        UserError: the file cannot be read, a line has another form, or a colour occurs twice.
    """
    setting = f"{prefix}palette={path}"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{setting} cannot be read ({error}); give a text file with one 'R G B' a line") from None
    colors: dict[Color, int] = {}
    classes = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        color, name = _parse(line, f"{setting}, line {number}")
        if color in colors:
            raise UserError(f"{setting}, line {number}: colour {color} is given twice; every class needs its own")
        void = name.strip().lower() in VOID
        colors[color] = NO_CLASS if void else classes
        classes += not void
    if not classes:
        raise UserError(f"{setting} names no colour; give one 'R G B' a line, in the order of the classes")
    return colors


def _parse(line: str, where: str) -> tuple[Color, str]:
    """Return colour and name of a line."""
    if match := re.fullmatch(r"\s*#([0-9a-fA-F]{6})\b(.*)", line):
        red, green, blue = bytes.fromhex(match[1])
        return (red, green, blue), match[2].lstrip(", \t")
    match = re.fullmatch(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)\b(.*)", line)
    values = [int(match[k]) for k in (1, 2, 3)] if match else [256]
    if match is None or max(values) > 255:
        raise UserError(f"{where}: {line.strip()!r} is no colour; write 'R G B' with values up to 255, or '#RRGGBB'")
    return (values[0], values[1], values[2]), match[4].lstrip(", \t")
