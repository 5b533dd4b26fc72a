"""Readers and checks of single image and label files; errors name the file and the remedy."""

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import IGNORE, TargetSpec
from mtlsi_net.data.transforms import Array

PNG_START, BIT_DEPTH_AND_COLOR = b"\x89PNG\r\n\x1a\n", slice(24, 26)
PLAIN = {"RGB": bytes([8, 2]), "L": bytes([8, 0]), "share": bytes([8, 0])}
"""Bit depth and colour type of PNGs that need no conversion."""


def read_target(path: Path, spec: TargetSpec) -> Array:
    """Return a label map in the NYUDv2 encoding (protocol page, section 1.2), (H, W, spec.channels).

    classes: uint8, PNG value - 1, stored 0 becomes 255; binary and vector: uint8 as stored, see ``transforms``; scalar:
    float32, ``.npy`` metres.

    Raises:
        UserError: the file is missing, truncated, of another kind, or holds values outside the spec's range.
    """
    if spec.kind == "classes":
        raw, classes = read_pixels(path, "L"), spec.num_classes or 0
        _check_classes(path, raw, raw > classes, f"0 (unlabelled) to {classes}")
        return (raw - np.uint8(1))[..., None]  # 0 wraps around to 255, which is invalid
    if spec.kind == "scalar":
        return _read_metres(path)
    return read_pixels(path, "RGB") if spec.kind == "vector" else read_pixels(path, "share")[..., None]


def read_pixels(path: Path, mode: str) -> NDArray[np.uint8]:
    """Return the pixels of a picture.

    ``mode`` is ``RGB`` (H, W, 3), converted; ``L`` (H, W), a single channel as stored; or ``share`` (H, W), a single
    channel of shares of 255, which only makes a difference for 1-bit pictures.

    Raises:
        UserError: the file is missing, truncated, no picture, or has several channels where one is wanted.
    """
    try:
        content = path.read_bytes()
        if (quick := _decode_plain_png(content, mode)) is not None:
            return quick
        with Image.open(BytesIO(content)) as image:
            if mode == "RGB":
                return np.asarray(image.convert("RGB"))
            if image.mode not in ("L", "P", "1"):
                raise UserError(
                    f"{path}: expected an 8-bit single-channel PNG, found mode {image.mode}; store one byte per pixel"
                )
            if mode == "share" and image.mode == "1":
                return np.asarray(image.convert("L"))
            return np.asarray(image).astype(np.uint8, copy=False)  # palette indices; 0 and 1 of a 1-bit image
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); replace the file from its source") from None


def _decode_plain_png(content: bytes, mode: str) -> NDArray[np.uint8] | None:
    """Return the pixels of a PNG that is stored in ``mode`` already; None if it has another mode or is damaged.

    OpenCV is faster than Pillow, which reads all other files: OpenCV would apply palettes, rotate JPEGs by their EXIF tags
    and fill truncated ones with grey.
    """
    if content[: len(PNG_START)] != PNG_START or content[BIT_DEPTH_AND_COLOR] != PLAIN[mode]:
        return None
    flag = cv2.IMREAD_COLOR_RGB if mode == "RGB" else cv2.IMREAD_GRAYSCALE
    buffer = np.frombuffer(content, np.uint8)
    return cv2.imdecode(buffer, flag | cv2.IMREAD_IGNORE_ORIENTATION)  # None if it is damaged


def read_stored_classes(path: Path, spec: TargetSpec) -> Array:
    """Return a class map stored without offset, 255 invalid, (H, W, 1) uint8; errors as in ``read_target``."""
    raw, classes = read_pixels(path, "L"), spec.num_classes or 0
    _check_classes(path, raw, (raw >= classes) & (raw != IGNORE), f"0 to {classes - 1}, and 255 (void)")
    return raw[..., None]


def _check_classes(path: Path, raw: NDArray[Any], wrong: NDArray[np.bool_], allowed: str) -> None:
    if wrong.any():
        values = ", ".join(map(str, np.unique(raw[wrong])[:5]))
        raise UserError(
            f"{path}: class value {values} found, but stored values go from {allowed}; "
            "the file belongs to another label set, or the task's class list is too short"
        )


def _read_metres(path: Path) -> Array:
    try:
        depth = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as .npy ({error}); replace the file from its source") from None
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: expected a 2-D array of metres, found shape {depth.shape} of {depth.dtype}; store one number per pixel"
        )
    if not (depth.min(initial=0) >= 0 and depth.max(initial=0) < np.inf):  # false for NaN
        bad = ~np.isfinite(depth) | (depth < 0)
        raise UserError(
            f"{path}: {int(bad.sum())} depth values are NaN, infinite or negative; store metres, and 0 where depth is missing"
        )
    return depth.astype(np.float32, copy=False)[..., None]
