"""MTLSI-Net: an experiment suite for multi-task dense prediction."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlsi_net.prediction.model import Model, load

__all__ = ["Model", "load"]

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the package index for a newer version


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    """Import what needs torch when it is asked for, so that commands answer ``--help`` at once."""
    if name in __all__:
        from mtlsi_net.prediction import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
