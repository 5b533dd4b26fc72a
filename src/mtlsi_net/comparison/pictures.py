"""Pictures inside the page, as data URIs, within a budget."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mtlsi_net.comparison.runs import Run

WIDTHS = (1200, 900, 600, 400)
"""Pixels that pictures may be wide; the largest whose sum fits the budget is taken."""

THUMBNAIL = 320
QUALITY = 80
IMAGE_PLACES = ("images/{}.png", "images/{}.jpg", "JPEGImages/{}.jpg")
"""Where data sets of this suite's layouts keep an image."""


def data_uri(path: Path, width: int) -> str | None:
    """Return a picture as a JPEG of at most ``width`` pixels, None if it cannot be read."""
    picture = cv2.imread(str(path))
    if picture is None:
        return None
    if picture.shape[1] > width:
        height = max(1, round(picture.shape[0] * width / picture.shape[1]))
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(np.asarray(encoded).tobytes()).decode()}" if done else None


def embed(paths: Mapping[str, Path], budget: int) -> tuple[dict[str, str], list[str]]:
    """Return name -> data URI within ``budget`` bytes in all, and the names that found no place.

    Args:
        paths: name -> picture; what cannot be read is left out.
        budget: bytes.
    """
    found: dict[str, str] = {}
    for width in WIDTHS:
        found = {name: uri for name, path in paths.items() if (uri := data_uri(path, width)) is not None}
        if sum(map(len, found.values())) <= budget:
            return found, []
    kept: dict[str, str] = {}
    for name, uri in found.items():
        if sum(map(len, kept.values())) + len(uri) <= budget:
            kept[name] = uri
    return kept, [name for name in found if name not in kept]


def grid_of(run: Run) -> Path | None:
    """Return the run's picture grid of the scored images, if it has one."""
    path = run.folder.pictures / f"{run.stage}.png"
    return path if path.is_file() else None


def image_files(run: Run, ids: Sequence[str]) -> dict[str, Path]:
    """Return id -> image file, of those that are still where the run read them."""
    data = run.config.get("data")
    root = Path(str(data.get("root", ""))) if isinstance(data, Mapping) else Path()
    places = {i: [root / place.format(i) for place in IMAGE_PLACES if "/" not in i] for i in ids}
    return {i: next(path for path in own if path.is_file()) for i, own in places.items() if any(map(Path.is_file, own))}
