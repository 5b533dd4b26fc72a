"""Extension of a run: what its new run folder takes over from the parent's, which stays as it is."""

import shutil
from pathlib import Path
from typing import Any

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.run_folder import LAST, PREVIOUS, RunFolder, histories
from mtlsi_net.models.weights import read_torch_file


def check_resumable(checkpoint: Path) -> int:
    """Return the step of a checkpoint.

    Raises:
        UserError: it holds weights only.
    """
    saved: dict[str, Any] = read_torch_file(checkpoint, "checkpoint", mmap=True)
    if "optimizer_states" not in saved:
        raise UserError(
            f"{checkpoint} holds weights only and cannot be resumed or extended: give {LAST}, or start a new run from it with "
            f"init_from={checkpoint}"
        )
    return int(saved["global_step"])


def check_extension(parent: RunFolder, checkpoint: Path, max_steps: int) -> dict[str, Any]:
    """Return the record of an extension, ``run`` (the parent's folder), ``checkpoint`` and ``step``.

    Raises:
        UserError: the checkpoint holds weights only, or is at ``max_steps`` (-1: no limit) already.
    """
    step = check_resumable(checkpoint)
    if max_steps != -1 and max_steps <= step:
        raise UserError(
            f"{parent.root} is at step {step} already: set trainer.max_steps (now {max_steps}) beyond it to extend the run"
        )
    return {"run": str(parent.root), "checkpoint": checkpoint.name, "step": step}


def inherit(parent: RunFolder, folder: RunFolder) -> None:
    """Copy the curves and the best checkpoint, which are the extended run's too."""
    for path in histories(parent):
        shutil.copyfile(path, folder.root / path.name)
    resumable = {LAST, PREVIOUS, "earlier.ckpt"}  # an earlier version left the last of a replaced run
    for path in parent.checkpoints.glob("*.ckpt"):
        if path.name not in resumable:
            shutil.copyfile(path, folder.checkpoints / path.name)
