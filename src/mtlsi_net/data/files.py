"""Readers and checks of single label files; errors name the file and the remedy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import IGNORE, IGNORE_WIDE, TargetSpec
from mtlsi_net.data.arrays import SUFFIXES, read_array
from mtlsi_net.data.encoding import NO_CLASS, NYUD, Color, Encoding
from mtlsi_net.data.pictures import read_colors, read_values
from mtlsi_net.data.transforms import SHORTEST_NORMAL, Array

ARRAY_NAMES = {
    "classes": ("labels", "label", "segmentation", "semseg"),
    "binary": ("mask", "label"),
    "scalar": ("depth", "depths"),
    "vector": ("normals", "normal"),
}
"""Kind of a target -> names that its array may have in a file of several."""
FARTHEST_METRES = 100
"""Greatest whole number that is taken for metres where no unit is given; greater ones are of another unit."""
LONGEST_NORMAL = 1.5
"""Greatest length of a stored normal; unit vectors in halves of precision, or averaged, stay below."""
NO_NORMAL = np.uint8(128)
"""Stored in all three planes where there is no normal: a vector of length 0.007."""
PIXEL_IS_SET = 128
"""Least value of a positive pixel in a mask that was compressed with loss."""


def read_target(path: Path, spec: TargetSpec, encoding: Encoding = NYUD) -> Array:
    """Return a label map, (H, W, spec.channels), as ``transforms`` describes it; ``encoding`` says what is stored.

    Pictures of one channel (8 or 16 bits, 1 bit, palette indices, grey as RGB; for scalars also floats), or arrays, see
    ``arrays.read_array``, (H, W), (H, W, 1) or (1, H, W).

    - classes: uint8, 255 unlabelled; of more than 255 classes float32, 65535 unlabelled. Stored are whole numbers, by
      default the class + 1, and 0 for unlabelled; or colours.
    - binary: uint8, 255 positive. Stored are shares of 255 or of ``binary_max``, bool, or floats in [0, 1]; JPEGs are
      cut at 128, since compression blurs them.
    - scalar: float32 metres, 0 missing. Stored are metres, or multiples of ``depth_scale``, which pictures need.
    - vector: RGB pictures or bytes hold ``127.5 (n + 1)``, uint8; floats hold the vectors, (H, W, 3) or (3, H, W), and are
      returned as unit vectors, float32, (0, 0, 0) where shorter than 0.5 or not finite.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds values outside the spec's range.
    """
    return _READERS[spec.kind](path, spec, encoding)


def read_pixels(path: Path, mode: str) -> NDArray[np.uint8]:
    """Return a label picture's bytes.

    ``mode`` is ``RGB`` (H, W, 3); ``L`` (H, W), a single channel as stored; or ``share`` (H, W), a single channel of shares
    of 255, which 1-bit pictures, palettes of greys and 16 bits are converted to.

    Raises:
        UserError: as ``pictures.read_values`` and ``pictures.read_colors``, or the values do not fit into bytes.
    """
    if mode == "RGB":
        return read_colors(path, lossy=True)
    if mode == "share":
        return _shares(path, NYUD)
    values = read_values(path, lossy=True)
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > IGNORE:
        raise UserError(
            f"{path}: expected an 8-bit single-channel PNG, found {values.dtype} up to {values.max():g}; store one byte per "
            "pixel"
        )
    return values.astype(np.uint8)


# -- classes ----------------------------------------------------------------------------------------------------------


def _read_classes(path: Path, spec: TargetSpec, encoding: Encoding) -> Array:
    count, kind = spec.num_classes or 0, np.float32 if spec.wide else np.uint8
    if encoding.palette is not None:
        return _classes_of_colors(path, encoding.palette, spec)[..., None]
    raw = _whole_numbers(path, encoding)
    if not encoding.zero_based:
        _check_classes(path, raw, (raw < 0) | (raw > count), f"0 (unlabelled) to {count}", _hint(raw, spec, encoding))
        if not spec.wide:  # 0 wraps around to 255, which is invalid
            return (raw.astype(np.uint8, copy=False) - np.uint8(1))[..., None]
        return np.where(raw == 0, spec.ignore, raw.astype(np.int64) - 1).astype(kind)[..., None]
    void = (raw == spec.ignore) | (raw == -1) | (raw == IGNORE_WIDE)
    hint = "; to read classes that count from 1, leave out zero_based or set one_based=true"
    hint = hint if count in raw and not encoding.fixed else ""
    _check_classes(path, raw, ((raw < 0) | (raw >= count)) & ~void, f"0 to {count - 1}, and {spec.ignore} (void)", hint)
    return (raw if raw.dtype == kind else np.where(void, kind(spec.ignore), raw.astype(kind)))[..., None]


def _hint(raw: NDArray[Any], spec: TargetSpec, encoding: Encoding) -> str:
    """Return what to set if the values are classes from 0 with 255, 65535 or -1 for unlabelled pixels."""
    from_zero = (raw < (spec.num_classes or 0)) | (raw == spec.ignore) | (raw == IGNORE_WIDE)
    void = int(raw.max()) if raw.min() >= 0 else -1
    setting = f"set {encoding.prefix}zero_based=true"
    return f"; if classes count from 0 with {void} as void, {setting}" if from_zero.all() else ""


def _check_classes(path: Path, raw: NDArray[Any], wrong: NDArray[np.bool_], allowed: str, hint: str) -> None:
    if wrong.any():
        values = ", ".join(map(str, np.unique(raw[wrong])[:5]))
        raise UserError(
            f"{path}: class value {values} found, but stored values go from {allowed}; "
            f"the file belongs to another label set, or the task's class list is too short{hint}"
        )


def _whole_numbers(path: Path, encoding: Encoding) -> NDArray[Any]:
    """Return stored classes, (H, W); a UserError if they are not whole numbers."""
    if path.suffix in SUFFIXES:
        raw = _flat(path, read_array(path, ARRAY_NAMES["classes"]))
    else:
        try:
            raw = read_values(path)
        except UserError as error:
            if "with colours" not in str(error) or encoding.fixed:
                raise
            setting = f"{encoding.prefix}palette=FILE (one 'R G B' a line, in the order of the classes)"
            raise UserError(f"{error}; or, if the colours are classes, set {setting}") from None
    if raw.dtype.kind == "b":
        return raw.astype(np.uint8)
    if raw.dtype.kind not in "iuf":
        raise UserError(f"{path}: expected whole numbers of classes, found {raw.dtype}; store one byte per pixel")
    if raw.dtype.kind == "f" and (uneven := raw[raw != np.round(raw)]).size:
        raise UserError(
            f"{path}: expected whole numbers of classes, found {uneven[0]:g} ({raw.dtype}, {uneven.size} such pixels); labels "
            "must not be interpolated, store one byte per pixel"
        )
    return raw.astype(np.int64) if raw.dtype.kind == "f" else raw


def _classes_of_colors(path: Path, palette: Mapping[Color, int], spec: TargetSpec) -> Array:
    """Return the classes of a colour mask, (H, W)."""
    count = spec.num_classes or 0
    if (most := max(palette.values())) >= count:
        raise UserError(
            f"palette: {most + 1} colours are given for {count} classes; give one a class, others named void"
        )
    colors = (
        read_colors(path) if path.suffix not in SUFFIXES else read_array(path, ARRAY_NAMES["classes"], dimensions=3)
    )
    if colors.ndim != 3 or colors.shape[2] != 3 or colors.dtype != np.uint8:
        raise UserError(
            f"{path}: expected colours, uint8 (H, W, 3), found {colors.dtype} of shape {colors.shape}; store RGB"
        )
    numbers = colors @ np.array([1 << 16, 1 << 8, 1])
    known = {
        (red << 16) + (green << 8) + blue: spec.ignore if index == NO_CLASS else index
        for (red, green, blue), index in palette.items()
    }
    stored, places = np.unique(numbers, return_inverse=True)
    unknown = [number for number in stored.tolist() if number not in known]
    if unknown:
        names = ", ".join(str((n >> 16, n >> 8 & 255, n & 255)) for n in unknown[:5])
        raise UserError(
            f"{path}: {len(unknown)} colours are not in the palette ({names}); add them, as void if they mean no class"
        )
    kind = np.float32 if spec.wide else np.uint8
    return np.array([known[number] for number in stored.tolist()], kind)[places].reshape(colors.shape[:2])


# -- masks ------------------------------------------------------------------------------------------------------------


def _read_binary(path: Path, spec: TargetSpec, encoding: Encoding) -> Array:  # noqa: ARG001 - of one kind of readers
    return _shares(path, encoding)[..., None]


def _shares(path: Path, encoding: Encoding) -> NDArray[np.uint8]:
    """Return a mask, (H, W), as shares of 255."""
    if path.suffix in SUFFIXES:
        values = _flat(path, read_array(path, ARRAY_NAMES["binary"]))
    else:
        values = read_values(path, shown=True, lossy=True)
        if path.suffix.lower() in (".jpg", ".jpeg"):
            return np.where(values < PIXEL_IS_SET, np.uint8(0), np.uint8(255))
    if values.dtype.kind == "b":
        return values * np.uint8(255)
    most = encoding.binary_max or (65535 if values.dtype.kind in "iu" and values.max(initial=0) > 255 else 255)
    if values.dtype.kind == "f":
        most = 1
    if values.dtype.kind not in "iuf" or not (values.min(initial=0) >= 0 and values.max(initial=0) <= most):
        raise UserError(
            f"{path}: mask of {values.dtype} from {values.min():g} to {values.max():g}; expected 0 to {most}: floats in "
            f"[0, 1], bytes up to 255, or up to {encoding.prefix}binary_max"
        )
    return values if most == 255 and values.dtype == np.uint8 else (values * (255 / most)).round().astype(np.uint8)


# -- depth ------------------------------------------------------------------------------------------------------------


def read_metres(path: Path, encoding: Encoding, most: int = FARTHEST_METRES) -> NDArray[Any]:
    """Return stored numbers as metres, (H, W) of any number type; whole ones above ``most`` need a ``depth_scale``.

    Raises:
        UserError: the file cannot be read, holds no numbers, or its unit is not known.
    """
    picture = path.suffix not in SUFFIXES
    depth = read_values(path) if picture else _flat(path, read_array(path, ARRAY_NAMES["scalar"]))
    if depth.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: expected a 2-D array of metres, found shape {depth.shape} of {depth.dtype}; store one number per pixel"
        )
    if encoding.depth_scale is not None:
        return depth * np.float64(encoding.depth_scale)
    if depth.dtype.kind != "f" and (picture or depth.max(initial=0) > most):
        raise UserError(
            f"{path}: depth in whole numbers ({depth.dtype}, up to {depth.max(initial=0)}) of unknown unit; set "
            f"{encoding.prefix}depth_scale to the metres of one unit, {encoding.prefix}depth_scale=0.001 for millimetres"
        )
    return depth


def _read_scalar(path: Path, spec: TargetSpec, encoding: Encoding) -> Array:  # noqa: ARG001 - of one kind of readers
    depth = read_metres(path, encoding)
    if not (depth.min(initial=0) >= 0 and depth.max(initial=0) < np.inf):  # false for NaN
        bad = ~np.isfinite(depth) | (depth < 0)
        raise UserError(
            f"{path}: {int(bad.sum())} depth values are NaN, infinite or negative; store metres, and 0 where depth is missing"
        )
    return depth.astype(np.float32, copy=False)[..., None]


def _flat(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return an array of one channel as (H, W)."""
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[..., 0] if values.shape[2] == 1 else values[0]
    if values.ndim != 2:
        raise UserError(
            f"{path}: expected a 2-D array, found shape {values.shape} of {values.dtype}; store one number per pixel"
        )
    return values


# -- normals ----------------------------------------------------------------------------------------------------------


def read_vectors(path: Path) -> NDArray[Any]:
    """Return stored normals, (H, W, 3): bytes of ``127.5 (n + 1)``, or floats as they are.

    Raises:
        UserError: the file cannot be read, or does not hold three planes of either.
    """
    if path.suffix not in SUFFIXES:
        return read_colors(path, lossy=True)
    values = read_array(path, ARRAY_NAMES["vector"], dimensions=3)
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] != 3 or not (values.dtype.kind == "f" or values.dtype == np.uint8):
        raise UserError(
            f"{path}: expected floats of shape (H, W, 3), found {values.dtype} of shape {values.shape}; "
            "normals are stored as x, y, z, or as bytes of 127.5 (n + 1)"
        )
    return values


def _read_vector(path: Path, spec: TargetSpec, encoding: Encoding) -> Array:  # noqa: ARG001 - of one kind of readers
    values = read_vectors(path)
    if values.dtype == np.uint8:
        return values
    vectors = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
    if lengths.max(initial=0) > LONGEST_NORMAL:
        raise UserError(
            f"{path}: normals of length up to {lengths.max():.4g}; store unit vectors as floats, or uint8 of 127.5 (n + 1)"
        )
    return np.where(lengths < SHORTEST_NORMAL, np.float32(0), vectors / np.maximum(lengths, SHORTEST_NORMAL))


_READERS: Mapping[str, Callable[[Path, TargetSpec, Encoding], Array]] = {
    "classes": _read_classes,
    "binary": _read_binary,
    "scalar": _read_scalar,
    "vector": _read_vector,
}
"""Kind of a target -> reader of its files."""
