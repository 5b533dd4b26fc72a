"""Reader of label pictures: the values that their pixels store, whatever the kind of picture."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.images import BYTES_GRAY, BYTES_RGB, Pixels, check_size, decode_plain_png, orientation

COLORED = ("RGB", "RGBA", "P", "RGBX")


def read_values(path: Path, *, shown: bool = False, lossy: bool = False) -> NDArray[Any]:
    """Return the values of a picture with one channel, (H, W): bool of 1 bit, whole numbers of 8 or 16 bits, or floats.

    Grey that is stored as RGB counts as one channel. Of a palette picture these are the indices; with ``shown`` the grey
    values if all its colours are grey.

    Raises:
        UserError: the file is missing, damaged, too large or no picture, has several channels, transparency or an EXIF
            orientation, or was compressed with loss and not ``lossy``.
    """
    with _opened(path, BYTES_GRAY) as picture:
        if isinstance(picture, np.ndarray):
            return picture
        _check(path, picture, lossy=lossy)
        if picture.mode == "P" and shown:
            rgb = np.asarray(picture.convert("RGB"))
            return rgb[..., 0] if _is_gray(rgb) else np.asarray(picture)
        if picture.mode in ("1", "L", "P", "F") or picture.mode.startswith("I"):
            return np.asarray(picture)
        planes = np.asarray(picture)
        if picture.mode in ("RGB", "RGBX", "RGBA", "LA") and _is_gray(planes[..., : 1 if picture.mode == "LA" else 3]):
            if picture.mode.endswith("A") and planes[..., -1].min() < 255:
                raise UserError(f"{path}: the label has transparent pixels; store one value per pixel, without alpha")
            return planes[..., 0]
        raise UserError(
            f"{path}: expected an 8-bit single-channel PNG, found mode {picture.mode} with colours; store one byte per pixel"
        )


def read_colors(path: Path, *, lossy: bool = False) -> Pixels:
    """Return the colours of a picture, (H, W, 3); transparent pixels of normals and masks keep their colour.

    Raises:
        UserError: as ``read_values``, or the picture has a single channel.
    """
    with _opened(path, BYTES_RGB) as picture:
        if isinstance(picture, np.ndarray):
            return picture
        _check(path, picture, lossy=lossy)
        if picture.mode not in COLORED:
            raise UserError(f"{path}: expected a picture with three channels, found mode {picture.mode}; store RGB")
        return np.asarray(picture.convert("RGB"))


@contextmanager
def _opened(path: Path, plain: bytes) -> Iterator[Image.Image | Pixels]:
    """Yield a decoded picture, or the pixels of a PNG of the kind ``plain``; a UserError if it cannot be read or is too large."""
    try:
        content = path.read_bytes()
        pixels = decode_plain_png(content, plain)
        if pixels is None:
            picture = Image.open(BytesIO(content))
            check_size(picture, path)
            picture.load()
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); replace the file from its source") from None
    yield picture if pixels is None else pixels


def _check(path: Path, picture: Image.Image, *, lossy: bool) -> None:
    if (turned := orientation(picture)) not in (0, 1):
        raise UserError(
            f"{path}: the label has an EXIF orientation ({turned}), so its top is not known; store it upright, without the tag"
        )
    if picture.format in ("JPEG", "MPO") and not lossy:
        raise UserError(f"{path}: a JPEG changes the values of a label; store it as PNG")


def _is_gray(planes: NDArray[Any]) -> bool:
    return all(np.array_equal(planes[..., 0], planes[..., k]) for k in range(1, planes.shape[2]))
