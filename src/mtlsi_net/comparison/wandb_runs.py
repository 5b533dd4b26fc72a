"""Run folders kept at W&B, fetched; they are read like local ones."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mtlsi_net.comparison.read import SkippedRun
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import KEPT


def fetch_runs(project: str, into: Path, api: Any = None) -> tuple[list[Path], list[SkippedRun]]:  # noqa: ANN401 - wandb's
    """Return a folder for each run of a W&B project that keeps its run folder there, and the others.

    Args:
        project: ``entity/project``.
        into: folder that the files are put in.
        api: a ``wandb.Api``; one of the logged-in user if None.

    Raises:
        UserError: not logged in, no such project, or no network.
    """
    import wandb

    folders, skipped = [], []
    try:
        for run in (api or wandb.Api()).runs(project):
            files = {file.name: file for file in run.files() if _wanted(file.name)}
            for file in files.values():
                file.download(root=str(into / _plain(run.id)), replace=True)
            roots = sorted({into / _plain(run.id) / PurePosixPath(name).parts[0] for name in files})
            folders += roots
            if not roots:
                skipped.append(
                    SkippedRun(
                        f"{project}/{run.id} ({run.name})", "W&B has no run folder of it; was it trained to the end?"
                    )
                )
    except (wandb.errors.Error, wandb.errors.CommError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"wandb={project} cannot be read ({reason}); log in with `wandb login`, or give runs=..."
        ) from None
    return folders, skipped


def _wanted(name: str) -> bool:
    """Return whether a file is ``<run folder>/<one of KEPT>``; W&B's own config.yaml has no folder."""
    parts = PurePosixPath(name).parts
    return len(parts) > 1 and ".." not in parts and os.path.join(*parts[1:]) in KEPT


def _plain(run_id: str) -> str:
    return re.sub(r"[^\w-]", "_", run_id)
