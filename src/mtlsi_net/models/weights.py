"""Reader of weights files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtlsi_net.core.errors import InputError


def read_weights(setting: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors or torch file; nothing in it is executed.

    The file holds a state_dict, or a dictionary with one under ``state_dict`` or ``model``. Errors name the ``setting``.

    Raises:
        InputError: the file is missing, damaged or has other content.
    """
    return tensors_of(read_file(setting, path), path)


def read_file(setting: str, path: Path) -> Any:  # noqa: ANN401 - whatever was saved
    """Return the content of a .safetensors or torch file; nothing in it is executed. Errors name the ``setting``.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{setting}={path} does not exist; give a .safetensors or .pth file")
    if path.suffix != ".safetensors":
        return read_torch_file(path, "weights file")
    try:
        return dict(load_file(path))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"weights file {path} cannot be read ({brief(error)}); is it complete?") from None


def read_torch_file(path: Path, what: str, *, mmap: bool = False) -> Any:  # noqa: ANN401 - whatever was saved
    """Return the content of a file of ``torch.save``, on the CPU; nothing in it is executed. Errors call it ``what``.

    Raises:
        InputError: the file is damaged, or another kind of file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch reads the bytes of any file as instructions, which fail in any way
        why = f" ({brief(error)}); is it complete?"
        if not _may_be_saved(path):
            why = ": it is no checkpoint, but another kind of file; give one that torch.save wrote"
        raise InputError(f"{what} {path} cannot be read{why}") from None


def _may_be_saved(path: Path) -> bool:
    """Return whether a file begins as what ``torch.save`` writes, a zip archive or a pickle, or has no beginning."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return True
    return start in (b"", b"PK") or start[:1] == b"\x80"


def tensors_of(content: Any, path: Path) -> dict[str, Tensor]:  # noqa: ANN401 - whatever was saved
    """Return the state_dict in a file's content: itself, or what it holds under ``state_dict`` or ``model``.

    Raises:
        InputError: there is none.
    """
    for wrapper in ("state_dict", "model"):
        content = content.get(wrapper, content) if isinstance(content, Mapping) else content
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise InputError(f"weights file {path} does not contain a dictionary of tensors; save the model's state_dict()")
    return dict(content)


def brief(error: Exception, limit: int = 300) -> str:
    """Return the beginning of an error's text, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + " ..."
