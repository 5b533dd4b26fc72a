"""Anybody's pictures as RGB."""

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mtlsi_net.utils.errors import UserError

Pixels = NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
"""Files of a folder that are taken for images; a file that is named is tried whatever it is called."""
MAX_MEGAPIXELS = 200.0
PAPER = (255, 255, 255)
"""What shows through where a picture is transparent."""


def find_images(source: str | Path, without: Path | None = None) -> list[Path]:
    """Return the images that a path, a folder (with its subfolders) or a glob names, sorted.

    Args:
        source: path, folder or glob.
        without: folder whose files are left out: that of results, which may lie among the images.

    Raises:
        UserError: it names none.
    """
    path = Path(source)
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        found = sorted(file for file in inside if without is None or not _lies_in(file, without))
        if not found:
            raise UserError(f"input={source}: the folder holds no image ({' '.join(SUFFIXES)})")
        return found
    if path.exists():
        return [path]
    if not has_magic(str(source)):
        raise UserError(f"input={source} does not exist; give an image, a folder, or a glob in quotes")
    found = sorted(file for name in glob(str(source), recursive=True) if (file := Path(name)).is_file())
    if not found:
        raise UserError(f"input={source}: no file matches")
    return found


def _lies_in(file: Path, folder: Path) -> bool:
    return folder.resolve() in file.resolve().parents


def read_image(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    """Return a picture as (H, W, 3) RGB bytes, upright.

    Rotation by EXIF is undone; grey, palettes, CMYK become RGB; 16 bits become 8 (the upper byte); floats in [0, 1] go to
    0..255; transparent parts show white; of an animation the first frame counts.

    Args:
        path: of the file.
        max_megapixels: larger pictures are refused before anything is decoded.

    Raises:
        UserError: the file is missing, empty, no picture, truncated, or larger than allowed.
    """
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes)")
        with Image.open(path) as image:
            _check_size(path, image.size, max_megapixels)
            return np.asarray(to_rgb(ImageOps.exif_transpose(image), str(path)))
    except Image.DecompressionBombError:
        raise UserError(
            f"{path} has more pixels than Pillow decodes; raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image in any known format; convert it to PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}); it may be damaged") from None


def _check_size(path: Path, size: Sequence[int], max_megapixels: float) -> None:
    if size[0] * size[1] > max_megapixels * 1e6:
        raise UserError(
            f"{path} has {size[0]}x{size[1]} pixels, more than max_megapixels={max_megapixels:g}; raise it if you trust the "
            "file"
        )


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Return any picture as RGB; see ``read_image``.

    Raises:
        UserError: a picture of floats beyond [0, 1].
    """
    if image.mode.startswith("I"):  # 16 bits, in Pillow's several ways
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # NaN is not
            raise UserError(f"{name} holds floats outside [0, 1] ({values.min():g} to {values.max():g}); scale them")
        return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def as_pixels(image: "Image.Image | NDArray[np.uint8] | str | Path") -> Pixels:
    """Return what a user holds as (H, W, 3) RGB bytes: a path, a PIL image, or an array.

    Raises:
        UserError: an array that is not (H, W, 3) or (H, W) bytes.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] != 3)
        or not image.size
    ):
        raise UserError(
            f"image is {image.dtype} of shape {image.shape}; give bytes (uint8), (H, W, 3) RGB or (H, W) grey"
        )
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
