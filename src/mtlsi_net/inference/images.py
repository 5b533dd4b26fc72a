"""Images that a user names or holds: files of a path, folder or glob, and any image as RGB bytes."""

from glob import glob, has_magic
from pathlib import Path

import numpy as np
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.images import SUFFIXES, Pixels, read_image, to_rgb

AnyImage = Image.Image | Pixels | str | Path


def find_images(source: str | Path, without: Path | None = None) -> list[Path]:
    """Return the sorted images of a path, a folder (with subfolders, except ``without``, of results) or a glob.

    Raises:
        UserError: there are none, or the folder lies in that of results.
    """
    path = Path(source)
    if path.is_dir():
        if without is not None and path.resolve().is_relative_to(without.resolve()):
            raise UserError(f"out={without} holds the input; choose another folder")
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


def as_pixels(image: AnyImage) -> Pixels:
    """Return any kind of image as (H, W, 3) RGB bytes, by the rules of ``data.images.read_image``.

    A path, a PIL image, or an array of bytes, (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey, or of 16-bit grey, (H, W).
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    given: object = image
    if not isinstance(given, np.ndarray):
        known: dict[type, str] = {
            list: "pass np.asarray(..., np.uint8) of pixels",
            bytes: "pass PIL.Image.open(io.BytesIO(...)) of an encoded picture",
        }
        advice = known.get(type(given), "pass a path, a PIL image, or an array (H, W, 3) or (H, W) of uint8")
        raise UserError(f"image is {'None' if given is None else f'a {type(given).__name__}'}; {advice}")
    planes, bits = (image.shape[2:] if image.ndim >= 2 else None), image.dtype
    if not (bits == np.uint8 and planes in ((), (3,), (4,))) and not (bits == np.uint16 and planes == ()):
        planes = None
    if planes is None or not image.size:
        raise UserError(
            f"image is {bits} of shape {image.shape}; pass uint8 values, (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey"
        )
    return image if planes == (3,) else to_rgb(Image.fromarray(image))
