"""Resolvers of configurations: ``${best_precision:ACCELERATOR}`` and ``${if:CONDITION,VALUE,OTHER}``."""

from typing import Any

from omegaconf import OmegaConf


def choose_precision(precision: str, accelerator: str) -> str:
    """Return Lightning's name of a precision; ``auto`` is bf16-mixed on GPUs that compute in bfloat16, else 32-true."""
    return best_precision(accelerator) if precision == "auto" else precision


def best_precision(accelerator: str) -> str:
    """Return bf16-mixed where an accelerator (Lightning's name) is a GPU that computes in bfloat16, else 32-true."""
    if accelerator not in ("auto", "gpu", "cuda"):
        return "32-true"
    import torch  # slow to import, and only needed here

    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if able else "32-true"


def _if(condition: bool, value: Any, other: Any) -> Any:  # noqa: ANN401 - any value of a configuration
    return value if condition else other


OmegaConf.register_new_resolver("best_precision", best_precision, replace=True)
OmegaConf.register_new_resolver("if", _if, replace=True)
