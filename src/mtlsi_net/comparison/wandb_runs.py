"""Download of run folders from W&B; they are then read like local ones."""

import re
from pathlib import Path
from textwrap import shorten
from typing import Any

from mtlsi_net.comparison.read import SkippedRun
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.run_folder import KEPT


def fetch_runs(project: str, into: Path, api: Any = None) -> tuple[list[Path], list[SkippedRun]]:  # noqa: ANN401 - wandb's
    """Return a folder inside ``into`` for each run of ``entity/project`` with a run folder at W&B, and the skipped runs.

    Raises:
        UserError: W&B is unreachable, or has no such project.
    """
    import wandb

    folders, skipped = [], []
    try:
        for run in (api or wandb.Api()).runs(project):
            files = {file.name: file for file in run.files() if _wanted(file.name)}
            home = into / re.sub(r"[^\w-]", "_", run.id)
            for file in files.values():
                file.download(root=str(home), replace=True)
            roots = sorted({home / name.partition("/")[0] for name in files})
            folders += roots
            if not roots:
                why = "W&B holds no run folder for this run; did it finish?"
                skipped.append(SkippedRun(f"{project}/{run.id} ({run.name})", why))
    except (wandb.errors.Error, ValueError, OSError) as error:
        reason = shorten(str(error), 120)
        raise UserError(
            f"wandb={project} cannot be read ({reason}); log in with `wandb login`, or pass runs=..."
        ) from None
    return folders, skipped


def _wanted(name: str) -> bool:
    """Return whether a file is ``<run folder>/<one of KEPT>``; W&B's own config.yaml has no folder."""
    folder, _, file = name.partition("/")
    return folder not in ("", ".", "..") and file in KEPT
