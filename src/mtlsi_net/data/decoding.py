"""Decoding of stored maps: bytes become values, in batches on the device that needs them.

Loaders move bytes, a quarter of what floats take; float32 maps hold values already and pass through.
"""

from collections.abc import Callable, Mapping
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsi_net.core.types import IGNORE, Batch, TargetSpec
from mtlsi_net.data.transforms import SHORTEST_NORMAL, Array, Floats

MEANING = {"classes": (1.0, 0.0), "binary": (1 / 255, 0.0), "vector": (2 / 255, -1.0), "scalar": (1.0, 0.0)}
"""Kind of target -> factor and offset that make a stored byte its value."""


def decode(stored: NDArray[np.uint8], kind: str) -> Floats:
    """Return the values of a stored map, (H, W, C)."""
    factor, offset = MEANING[kind]
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)
    values: Floats = cv2.LUT(stored, table).reshape(stored.shape)
    return values


def padding(valid: Tensor) -> Tensor:
    """Return 1.0 on padding and 0.0 elsewhere: on a CPU, sums of it are far quicker than masks."""
    return (~valid).float()


def image_values(image: Tensor, outside: Tensor, pad_color: Tensor) -> Tensor:
    """Return images (B, 3, H, W) in [0, 1]; bytes, 0 on ``padding``, get ``pad_color`` (B, 3, 1, 1) there."""
    if image.dtype != torch.uint8:
        return image
    return image.float().div_(255).addcmul_(outside, pad_color)


def target_values(target: Tensor, spec: TargetSpec, outside: Tensor | None = None) -> Tensor:
    """Return targets (B, C, H, W) as networks take them, float32, 255 where stored so or ``spec`` says so.

    ``target`` is stored, 0 on padding, or values that are padded already; ``outside`` is ``padding`` (B, 1, H, W), if any.
    """
    invalid = _INVALID.get(spec.invalid)
    if target.dtype != torch.uint8:
        values = target if invalid is None else target.masked_fill(invalid(target), IGNORE)
        return _without_ignored(values, spec)
    factor, offset = MEANING[spec.kind]
    values = target.float()
    if (factor, offset) != (1.0, 0.0):
        values.mul_(factor).add_(offset)
    if outside is not None:
        values.add_(outside, alpha=spec.fill - offset)  # a stored 0 is ``offset``
    return _without_ignored(values if invalid is None else values.masked_fill_(invalid(values), IGNORE), spec)


def _without_ignored(values: Tensor, spec: TargetSpec) -> Tensor:
    for index in spec.ignored:
        values = values.masked_fill(values == index, spec.ignore)
    return values


_INVALID: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": lambda values: values == 0,
    "short_vector": lambda values: values.square().sum(dim=1, keepdim=True) < SHORTEST_NORMAL**2,
    "background_only": lambda values: ~((values > 0) & (values != IGNORE)).flatten(1).any(dim=1).view(-1, 1, 1, 1),
}


def label_values(label: Array, spec: TargetSpec) -> Tensor:
    """Return one untransformed label map (H, W, C), stored or values, as ``target_values``: (C, H, W)."""
    return target_values(torch.from_numpy(label.transpose(2, 0, 1).copy())[None], spec)[0]


def batch_values(batch: Batch, specs: Mapping[str, TargetSpec]) -> Batch:
    """Return a loader's batch as networks and losses take it; values, and targets without a spec, stay as they are."""
    outside = padding(batch["valid"])
    stored = {name: target for name, target in batch["targets"].items() if name in specs}
    targets = batch["targets"] | {name: target_values(maps, specs[name], outside) for name, maps in stored.items()}
    rest = {key: value for key, value in batch.items() if key != "pad_color"}
    image = image_values(batch["image"], outside, batch["pad_color"]) if "pad_color" in batch else batch["image"]
    return cast(Batch, {**rest, "image": image, "targets": targets})
