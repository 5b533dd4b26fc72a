"""Training and evaluation that remember what they counted: operations take as long to count as short tests take to train."""

import sys
from collections.abc import Callable
from typing import Any

import pytest


def remember_sizes(patch: pytest.MonkeyPatch) -> None:
    """Let the operations of equal networks be counted, and equal encoders be tried, only once.

    Only where training, evaluation and encoders are imported: not for tests that need no network.
    """
    if "mtlsi_net.models.size" in sys.modules:
        measure = _remembered(sys.modules["mtlsi_net.models.size"].measure_size)
        for name in ("mtlsi_net.engine.train", "mtlsi_net.engine.evaluate"):
            if name in sys.modules:
                patch.setattr(f"{name}.measure_size", measure)
    if "mtlsi_net.models.encoder" in sys.modules:
        encoder = sys.modules["mtlsi_net.models.encoder"].TimmEncoder
        patch.setattr(encoder, "check_size", _once(encoder.check_size))


def _remembered(measure: Callable[..., Any]) -> Callable[..., Any]:
    sizes: dict[tuple[object, ...], Any] = {}

    def measure_size(network: Any, image_size: tuple[int, int]) -> Any:
        trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        key = str(network), trainable, tuple(image_size)
        if key not in sizes:
            sizes[key] = measure(network, image_size)
        return dict(sizes[key])

    return measure_size


def _once(check: Callable[..., None]) -> Callable[..., None]:
    passed: set[tuple[object, ...]] = set()

    def check_size(encoder: Any, size: tuple[int, int]) -> None:
        shapes = tuple((name, tuple(parameter.shape)) for name, parameter in encoder.named_parameters())
        key = encoder.name, shapes, tuple(size)
        if key not in passed:
            check(encoder, size)
            passed.add(key)

    return check_size
