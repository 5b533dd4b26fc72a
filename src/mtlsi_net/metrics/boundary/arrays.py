"""Plain arrays and tensors as what the boundary metric counts: predictions of 8 bits, and references."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import Reference
from mtlsi_net.metrics.boundary.presets import Preset

Soft = NDArray[np.uint8]
Map = Tensor | NDArray[Any]
"""Of probabilities in [0, 1], bytes 0 to 255, or booleans; of labels, integers."""

SMALLEST = 3
"""Least height and width: non-maximum suppression looks at both neighbours."""

PREDICTIONS = "probabilities in [0, 1] (the sigmoid of logits), 0 and 1, or bytes 0 to 255"

SLACK = 2e-3
"""By which interpolated probabilities may leave [0, 1]: half a level of 8 bits."""


def images_of(predictions: Map | Sequence[Map]) -> list[Map]:
    """Return the maps of (B, 1, H, W) or (B, H, W), of one (H, W), or of a sequence, one for each image.

    Raises:
        InputError: an array of another shape.
    """
    if not isinstance(predictions, Tensor | np.ndarray):
        return list(predictions)
    if predictions.ndim not in (2, 3, 4):
        raise InputError(
            f"boundary predictions have shape {tuple(predictions.shape)}; pass (B, 1, H, W), (B, H, W) or (H, W)"
        )
    return [predictions] if predictions.ndim == 2 else list(predictions)


def soft_maps(predictions: Sequence[Map]) -> list[Soft]:
    """Return maps as the field's pictures store them, each (H, W) of 8 bits: trunc(255 * probability).

    Args:
        predictions: (1, H, W) or (H, W): probabilities as floats, bytes 0 to 255, or 0 and 1 if nothing in any is larger.

    Raises:
        InputError: another shape, or other values.
    """
    maps = [_plane(prediction) for prediction in predictions]
    highest = max((values.max() for values in maps if values.dtype.kind in "iu"), default=0)
    return [_bytes("a boundary prediction", v, PREDICTIONS, np.trunc, masks=bool(highest <= 1)) for v in maps]


def _plane(prediction: Map) -> NDArray[Any]:
    """Return a prediction as an (H, W) array; an InputError for another shape."""
    values = _array(prediction)
    shape = values.shape
    if values.ndim == 3 and shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or min(values.shape) < SMALLEST:
        raise InputError(
            f"a boundary prediction has shape {shape}; pass (H, W) or (1, H, W), both sides at least {SMALLEST}"
        )
    return values


def references_of(truths: Any, preset: Preset, single: bool) -> list[Reference]:  # noqa: ANN401 - checked one by one
    """Return one reference for each image.

    Args:
        truths: a sequence of references or of label maps, (H, W), or (A, H, W) of A annotators; or all of them as one array.
            Boundaries are booleans, 0 and 1, 0 to 255, or floats in [0, 1]; where the preset takes maps of segments, integers.
        preset: the rules, which say what label maps hold.
        single: ``truths``, if it is one array, is that of one image.

    Raises:
        InputError: a map of another shape or with other values.
    """
    if isinstance(truths, Reference):
        truths = [truths]
    elif isinstance(truths, Tensor | np.ndarray):
        truths = [truths] if single else list(truths)
    return [_reference(truth, preset) for truth in truths]


def _array(value: Any) -> NDArray[Any]:  # noqa: ANN401 - checked here
    if isinstance(value, Tensor):
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).cpu().numpy()  # numpy has no bfloat16
    if not isinstance(value, np.ndarray):
        raise InputError(f"a boundary map is a {type(value).__name__}; pass a numpy array or a torch tensor")
    return value


def _reference(truth: Any, preset: Preset) -> Reference:  # noqa: ANN401 - checked here
    if isinstance(truth, Reference):
        if truth.kind == "labels" or not len(truth.maps):
            return truth
        return truth._replace(maps=_truth_bytes(_array(truth.maps)))
    maps = _array(truth)
    if maps.ndim not in (2, 3):
        raise InputError(f"a boundary truth has shape {maps.shape}; pass (H, W), or (A, H, W) of A annotators")
    maps = maps if maps.ndim == 3 else maps[None]
    if preset.truth != "labels":
        return Reference(_truth_bytes(maps), "boundaries")
    if maps.dtype.kind not in "iu" or set(np.unique(maps)) in ({0, 1}, {0, 255}):
        raise InputError(
            "this preset takes the truth for maps of segments, integers, but got what looks like boundaries; if it is, pass "
            "Reference(maps, 'boundaries'), else Reference(maps, 'labels'), of mtlsi_net.core.types, with maps (A, H, W)"
        )
    return Reference(maps, "labels")


def _truth_bytes(values: NDArray[Any]) -> Soft:
    if values.dtype.kind in "iu" and (values == 1).any() and set(np.unique(values)) == {0, 1, 255}:
        raise InputError(
            "a boundary truth holds 0, 1 and 255, so that 1 or 255 means something else than a boundary; set pixels without a "
            "boundary, also unlabelled ones, to 0"
        )
    return _bytes("a boundary truth", values, "1 at boundaries, else 0; or 0 to 255, or floats in [0, 1]")


def _bytes(
    what: str,
    values: NDArray[Any],
    wanted: str,
    to_whole: Callable[..., NDArray[Any]] = np.rint,
    *,
    masks: bool = True,
) -> Soft:
    """Return booleans, integers 0 to 255, or floats in [0, 1], as 0 to 255.

    ``masks``: integers, none larger than 1, are 0 and 1; else they are 0 to 255, too.
    """
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if values.dtype.kind in "iub":
        if not 0 <= low <= high <= 255:
            raise InputError(f"{what} holds integers from {low} to {high}; pass {wanted}")
        is_mask = values.dtype.kind == "b" or (masks and high <= 1)
        return values.astype(np.uint8) * np.uint8(255 if is_mask else 1)
    if not (values.dtype.kind == "f" and -SLACK <= low <= high <= 1 + SLACK):  # false for NaN, too
        raise InputError(f"{what} holds {values.dtype} from {low:g} to {high:g}; pass {wanted}")
    return to_whole(values.astype(np.float32).clip(0, 1) * np.float32(255)).astype(np.uint8)
