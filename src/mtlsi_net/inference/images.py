"""Reader of images of any kind as RGB bytes."""

from glob import glob, has_magic
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mtlsi_net.core.errors import UserError

Pixels = NDArray[np.uint8]
AnyImage = Image.Image | Pixels | str | Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
"""Suffixes of images in a folder; a file passed by name is read whatever its suffix."""
MAX_MEGAPIXELS = 200.0
PAPER = (255, 255, 255)
"""Background of transparent pictures."""


def find_images(source: str | Path, without: Path | None = None) -> list[Path]:
    """Return the sorted images of a path, a folder (with subfolders, except ``without``, of results) or a glob."""
    path = Path(source)
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        problem = f"the folder contains no images ({' '.join(SUFFIXES)})"
    elif path.exists():
        return [path]
    elif has_magic(str(source)):
        files, problem = (Path(name) for name in glob(str(source), recursive=True)), "no files match"
    else:
        raise UserError(f"input={source} does not exist; pass an image, a folder, or a glob in quotes")
    excluded = without.resolve() if without is not None and path.is_dir() else None
    images = sorted(file for file in files if file.is_file() and excluded not in file.resolve().parents)
    if not images:
        raise UserError(f"input={source}: {problem}")
    return images


def read_image(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    """Return a picture as (H, W, 3) RGB bytes, upright.

    Rotation by EXIF is undone; grey, palettes, CMYK become RGB; 16 bits become 8 (the upper byte); floats in [0, 1] are scaled
    to 0..255; transparent parts become white; animations give their first frame. A UserError if it cannot be read, or is
    larger than ``max_megapixels``, which is checked before decoding.
    """
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes)")
        with Image.open(path) as image:
            if image.width * image.height > max_megapixels * 1e6:
                size = f"{image.width}x{image.height} pixels, more than max_megapixels={max_megapixels:g}"
                raise UserError(f"{path} has {size}; raise it if you trust the file")
            return np.asarray(to_rgb(ImageOps.exif_transpose(image), str(path)))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image in any known format; convert it to PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}); it may be damaged") from None


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Return any picture as RGB, see ``read_image``; a UserError for floats beyond [0, 1]."""
    if image.mode.startswith("I"):  # 16 bits, in Pillow's several ways
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # NaN is not
            raise UserError(
                f"{name} contains floats outside [0, 1] ({values.min():g} to {values.max():g}); scale them to it"
            )
        return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def as_pixels(image: AnyImage) -> Pixels:
    """Return any kind of image as (H, W, 3) RGB bytes: a path, a PIL image, or bytes (H, W, 3) or (H, W)."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    given: object = image
    if not isinstance(given, np.ndarray):
        known: dict[type, str] = {
            list: "predict its images one by one, or pass np.asarray(..., np.uint8) of pixels",
            bytes: "pass PIL.Image.open(io.BytesIO(...)) of an encoded picture",
        }
        advice = known.get(type(given), "pass a path, a PIL image, or an array (H, W, 3) or (H, W) of uint8")
        raise UserError(f"image is {'None' if given is None else f'a {type(given).__name__}'}; {advice}")
    if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)) or image.ndim < 2 or not image.size:
        raise UserError(
            f"image is {image.dtype} of shape {image.shape}; pass uint8 values, (H, W, 3) RGB or (H, W) grey"
        )
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
