"""Checkpoint files: atomic writing, the previous one kept, damage recognised."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import atomic_file
from mtlsi_net.core.renamed import current_states
from mtlsi_net.core.run_folder import LAST, PREVIOUS


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and executes nothing in a file that is read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401, ARG002 - Lightning's signature
        """Write ``path``, or raise a UserError and leave what was there; a replaced ``last.ckpt`` is ``previous.ckpt``."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, keep=path.with_name(PREVIOUS) if path.name == LAST else None) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch wraps what its file's write raises
            kept = f"; the earlier {path.name} is kept" if path.exists() else ""
            raise UserError(
                f"{path} cannot be written ({_reason(error)}){kept}. Free disk space or fix the permissions, then resume "
                "with ckpt=last"
            ) from None

    def load_checkpoint(  # type: ignore[override] # newer versions hand over weights_only, which is always true here
        self,
        path: str | Path,
        map_location: Any = "cpu",  # noqa: ANN401 - torch.load's
        **_: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """Return the checkpoint in ``path``."""
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        if "callbacks" in checkpoint:
            checkpoint["callbacks"] = current_states(checkpoint["callbacks"])
        return checkpoint


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint file, None if nothing is: every byte is compared with its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        return f"{path.stat().st_size if path.is_file() else 0} bytes, {_reason(error)}"
    return None if broken is None else f"checksum of {broken} is wrong"


def checkpoint_step(path: Path) -> int:
    """Return the optimiser steps behind a checkpoint; nothing but its index is read."""
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return int(saved["global_step"])


def _reason(error: BaseException) -> str:
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0]
