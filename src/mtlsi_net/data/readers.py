"""Read one file, check it, and say which file is wrong and what to do if it is."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtlsi_net.data.transforms import Array
from mtlsi_net.specs import IGNORE, TargetSpec
from mtlsi_net.utils.errors import UserError

MAX_DISTINCT_SHOWN = 5


def read_image(path: Path) -> Array:
    """Return an RGB image, (H, W, 3) uint8.

    Raises:
        UserError: the file is missing, truncated or no image.
    """
    return np.asarray(_open_pixels(path, "RGB"))


def read_target(path: Path, spec: TargetSpec) -> Array:
    """Return a label map in the NYUDv2 encoding (protocol page, section 1.2), (H, W, spec.channels).

    classes: uint8, PNG value - 1, stored 0 becomes 255; binary and vector: uint8 as stored, see ``transforms``; scalar:
    float32, ``.npy`` metres.

    Raises:
        UserError: the file is missing, truncated, of another kind, or holds values outside the spec's range.
    """
    decode = {"classes": _read_classes, "binary": _read_binary, "vector": _read_vectors, "scalar": _read_metres}
    return decode[spec.kind](path, spec)


def _open_pixels(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            if mode == "RGB":
                return image.convert("RGB")
            if image.mode not in ("L", "P", "1"):
                raise UserError(f"{path}: expected an 8-bit single-channel PNG, found mode {image.mode}")
            image.load()
            return image.copy()
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error}); replace the file from its source") from None


def _read_classes(path: Path, spec: TargetSpec) -> Array:
    assert spec.num_classes is not None, "targets of kind 'classes' state num_classes"
    raw = read_gray(path)
    _check_classes(path, raw, raw > spec.num_classes, f"0 (unlabelled) to {spec.num_classes}")
    return (raw - np.uint8(1))[..., None]  # 0 wraps around to 255, which is invalid


def read_stored_classes(path: Path, spec: TargetSpec) -> Array:
    """Return a class map stored without offset, 255 invalid, (H, W, 1) uint8.

    Raises:
        UserError: the file is missing, truncated, of another kind, or holds classes the spec does not have.
    """
    assert spec.num_classes is not None, "targets of kind 'classes' state num_classes"
    raw = read_gray(path)
    wrong = (raw >= spec.num_classes) & (raw != IGNORE)
    _check_classes(path, raw, wrong, f"0 to {spec.num_classes - 1}, and 255 (void)")
    return raw[..., None]


def _check_classes(path: Path, raw: NDArray[Any], wrong: NDArray[np.bool_], allowed: str) -> None:
    if wrong.any():
        shown = ", ".join(map(str, np.unique(raw[wrong])[:MAX_DISTINCT_SHOWN]))
        raise UserError(
            f"{path}: class value {shown} found, but stored values go from {allowed}; "
            "the file belongs to another label set, or the task's class list is too short"
        )


def read_gray(path: Path) -> NDArray[np.uint8]:
    """Return an 8-bit single-channel picture as stored (a palette's indices, not its colours), (H, W).

    Raises:
        UserError: the file is missing, truncated or of another kind.
    """
    return np.asarray(_open_pixels(path, "L")).astype(np.uint8, copy=False)  # of a 1-bit picture: 0 and 1


def read_strength(path: Path) -> NDArray[np.uint8]:
    """Return an 8-bit or 1-bit single-channel picture as shares of 255, (H, W).

    Raises:
        UserError: the file is missing, truncated or of another kind.
    """
    picture = _open_pixels(path, "L")
    return np.asarray(picture.convert("L") if picture.mode == "1" else picture)


def _read_binary(path: Path, spec: TargetSpec) -> Array:  # noqa: ARG001 - the readers share one signature
    return read_strength(path)[..., None]


def _read_vectors(path: Path, spec: TargetSpec) -> Array:  # noqa: ARG001 - the readers share one signature
    return np.asarray(_open_pixels(path, "RGB"))


def _read_metres(path: Path, spec: TargetSpec) -> Array:  # noqa: ARG001 - the readers share one signature
    try:
        depth = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as .npy ({error}); replace the file from its source") from None
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise UserError(f"{path}: expected a 2-D array of metres, found shape {depth.shape} of {depth.dtype}")
    if not (depth.min(initial=0) >= 0 and depth.max(initial=0) < np.inf):  # NaN is not
        bad = ~np.isfinite(depth) | (depth < 0)
        raise UserError(
            f"{path}: {int(bad.sum())} depth values are NaN, infinite or negative; store metres, and 0 where depth is missing"
        )
    return depth.astype(np.float32, copy=False)[..., None]
