"""timm, imported without wandb: its helper for training scripts would import that too, in every run."""

import sys

_hides = "wandb" not in sys.modules
if _hides:
    sys.modules["wandb"] = None  # type: ignore[assignment] # how Python marks a module that cannot be imported
try:
    import timm
    import timm.data
    import timm.layers
    import timm.models
finally:
    if _hides:
        del sys.modules["wandb"]

__all__ = ["timm"]
