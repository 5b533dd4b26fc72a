"""The reference vectors: inputs (npz) and the values that the lineage's published code gives on them (json)."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent.parent / "fixtures"


@functools.cache
def _arrays() -> Any:
    return np.load(FOLDER / "metric_vectors.npz")


@functools.cache
def expected() -> dict[str, Any]:
    """Return the whole table of expected values."""
    return json.loads((FOLDER / "metric_vectors.json").read_text())


def tensor(name: str) -> Tensor:
    """Return a fresh copy of one input array."""
    return torch.from_numpy(_arrays()[name].copy())


def depth_target() -> Tensor:
    """Return the depth labels with missing depth as 255, as loaders give them."""
    raw = tensor("depth_gt_zero_is_missing")
    return torch.where(raw == 0, 255.0, raw)


def leaves(section: str) -> dict[str, Any]:
    """Return ``a/b/c`` -> value for one section; lists count as one value."""
    return dict(_walk(expected()[section], ""))


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        name = key.split(" (")[0]  # some keys carry an explanation
        yield from _walk(value, f"{path}/{name}" if path else name)
