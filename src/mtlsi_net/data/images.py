"""Reader of images: the one way in which training, verification, prediction, the demo page and Python read a picture."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtlsi_net.core.errors import UserError

Pixels = NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
"""Suffixes, in lower case, of images that are looked for in a folder; a file passed by name is read whatever its suffix."""
MAX_MEGAPIXELS = 200.0
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower and another error; ``check_size`` takes its place
PAPER = (255, 255, 255)
"""Background of transparent pictures."""
ORIENTATION = 0x0112
"""EXIF tag that says how a viewer turns the stored pixels."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation -> what makes the picture upright; others mean upright."""

PNG_START, PNG_SIZE, PNG_TYPE = b"\x89PNG\r\n\x1a\n", slice(16, 24), slice(24, 26)
BYTES_RGB, BYTES_GRAY = bytes([8, 2]), bytes([8, 0])
"""Bit depth and colour type of PNGs that need no conversion."""
SPECIAL = (b"tRNS", b"eXIf", b"acTL", b"Raw profile type", b"XML:com.adobe.xmp")
"""What a PNG with transparency, an orientation or several frames contains; in others by chance only, which costs time."""


def read_image(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    """Return a picture as (H, W, 3) RGB bytes, as a viewer shows it.

    - EXIF orientation (also in PNG, TIFF, WebP and XMP): the picture is turned upright; an unreadable tag means upright.
    - 8-bit RGB: as stored; grey: in all three channels; 1 bit: 0 and 255; palettes, CMYK, YCbCr: converted to RGB.
    - 16 bits a channel: the upper byte. Whole numbers beyond 16 bits, and 16-bit files that hold 8-bit values, are refused.
    - Floats: from [0, 1], scaled to 0..255; others are refused.
    - Transparency (alpha, or a transparent colour): on white.
    - Animations and files of several pages: the first frame.
    - Colour profiles and gamma are not applied.

    Raises:
        UserError: the file is missing, empty, truncated, or of no known format, its values are refused, or it has more than
            ``max_megapixels``, which is checked before decoding.
    """
    try:
        content = path.read_bytes()
        if (plain := decode_plain_png(content, BYTES_RGB, max_megapixels)) is not None:
            return plain
        with Image.open(BytesIO(content)) as image:
            check_size(image, path, max_megapixels)
            return to_rgb(image, str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except UnidentifiedImageError:
        reason = "is empty (0 bytes)" if not content else "is not an image in any known format and number type"
        raise UserError(f"{path} {reason}; convert it to 8-bit PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); replace the file from its source") from None


def check_size(image: Image.Image, path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> None:
    """Raise a UserError if a picture, not decoded yet, has more than ``max_megapixels``."""
    if image.width * image.height > max_megapixels * 1e6:
        raise UserError(
            f"{path} has {image.width}x{image.height} pixels, more than max_megapixels={max_megapixels:g}; store it smaller, "
            "or raise the limit of predict if you trust the file"
        )


def to_rgb(image: Image.Image, name: str = "image") -> Pixels:
    """Return any picture as RGB bytes, see ``read_image``; a UserError for values that it refuses."""
    image = upright(image)
    if image.mode.startswith("I"):  # whole numbers, in Pillow's several ways
        return _gray(_upper_byte(np.asarray(image), name))
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # NaN is not
            raise UserError(
                f"{name} contains floats outside [0, 1] ({values.min():g} to {values.max():g}); scale them to it"
            )
        return _gray((values * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*PAPER, 255)), image)
    return np.asarray(image.convert("RGB"))


def _upper_byte(values: NDArray[np.integer], name: str) -> Pixels:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UserError(f"{name} contains whole numbers from {low} to {high}; store 8 or 16 bits a pixel")
    if 0 < high < 256:
        raise UserError(f"{name} has 16 bits a pixel but no value above {high}, and would be black; store it as 8 bits")
    return (values >> 8).astype(np.uint8)


def _gray(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2)


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF orientation says."""
    image.load()  # some formats know their orientation only then, and TIFFs are upright then
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, upright, without a readable one."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged tags raise many kinds of errors
        return 1


def stored_size(path: Path) -> tuple[tuple[int, int], int]:
    """Return (height, width) of a picture's pixels as stored, and its EXIF orientation.

    An OSError or ValueError if the file is damaged; a UserError as ``check_size``, since some formats have to be decoded.
    """
    with Image.open(path) as image:
        check_size(image, path)
        turned = orientation(image)
        size = (image.width, image.height) if image.format == "TIFF" and turned >= 5 else (image.height, image.width)
        return size, turned


def decode_plain_png(content: bytes, kind: bytes, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels | None:
    """Return the pixels of a PNG of ``kind`` that needs no conversion; None if it does, is too large, or is damaged.

    OpenCV is faster than Pillow, which reads all other files: OpenCV would apply palettes and fill truncated JPEGs with
    grey.
    """
    if content[: len(PNG_START)] != PNG_START or content[PNG_TYPE] != kind or any(mark in content for mark in SPECIAL):
        return None
    width, height = (int.from_bytes(content[PNG_SIZE][part]) for part in (slice(0, 4), slice(4, 8)))
    if width * height > max_megapixels * 1e6:
        return None
    flag = cv2.IMREAD_COLOR_RGB if kind == BYTES_RGB else cv2.IMREAD_GRAYSCALE
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
