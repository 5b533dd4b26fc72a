"""Layout, lock and metric history of a run folder."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import read_history, write_history

log = logging.getLogger(__name__)

LOCK = ".lock"
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"

KEPT = (
    *("config.yaml", "metrics.json", "run.json", "metrics.csv", "per_image.npz", "table.md"),
    *("pictures/val.png", "pictures/dev.png"),
)
"""Files of a run folder that are also uploaded to W&B, so that ``compare wandb=...`` reads the same as ``compare runs=...``."""


class RunFolder:
    """Paths inside one run's folder ``root``; created on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"  # resolved
        self.record = root / "run.json"  # command, commit, seed, versions, hardware, durations
        self.metrics = root / "metrics.json"  # last, best, constant (stage -> task -> metric), model and skill
        self.table = root / "table.md"  # the main metrics
        self.classes = root / "classes.csv"  # IoU of every class, of tasks that have classes
        self.confusion = root / "confusion"  # matrices of tasks that have classes, as CSV and picture
        self.per_image = root / "per_image.npz"  # what every image contributed to the last weights' scores
        self.history = root / "metrics.csv"  # what was logged over time
        self.wandb_id = root / "wandb_id.txt"  # of the W&B run, which a resumed run continues
        self.job = root / "slurm_job.txt"  # number of the SLURM job that trains it, if one does
        self.pictures = root / "pictures"
        self.checkpoints = root / "checkpoints"  # also of best.ckpt or best_on_test.ckpt
        self.last = self.checkpoints / LAST  # the newest, with all that training needs to resume
        self.previous = self.checkpoints / PREVIOUS  # the one before, until training has finished

    @classmethod
    def of_checkpoint(cls, path: Path) -> Self | None:
        """Return the run folder that a checkpoint lies in; None if the file lies elsewhere."""
        place = path.absolute().parent  # not resolved: it may be a link to another disk
        folder = cls(place.parent)
        return folder if place == folder.checkpoints else None

    def refuse_trained(self, setting: str) -> None:
        """Raise a UserError that names the ``setting`` if a run has trained here, whose files a command would overwrite."""
        if any(self.checkpoints.glob("*.ckpt")):
            raise UserError(
                f"{setting}={self.root} is the folder of a trained run, whose files stay as they are; choose another folder"
            )

    def refuse_another_run(self) -> None:
        """Raise a UserError if the folder holds a run, finished or not: a new one would replace its files."""
        if self.has_checkpoint() or self.metrics.is_file():
            state = "a finished" if self.metrics.is_file() else "an unfinished"
            raise UserError(
                f"{self.root} holds {state} run, whose files stay as they are: resume or extend it with ckpt={self.root}, "
                "choose another folder with paths.run_dir, or delete this one"
            )

    def has_checkpoint(self) -> bool:
        """Return whether the run can be resumed, unless its checkpoints are damaged."""
        return self.last.is_file() or self.previous.is_file()

    def slurm_job(self) -> str | None:
        """Return the number of the SLURM job that has trained the run last; None if none is noted."""
        return self.job.read_text().strip() if self.job.is_file() else None

    def kept(self, how: str) -> str:
        """Return a sentence on what is left of an unfinished run; ``how`` is the instruction for resuming it."""
        newest = next((path.name for path in (self.last, self.previous) if path.is_file()), None)
        if newest is None:
            return "No checkpoint was written yet; start the run again"
        return f"{newest} is kept; {how}"

    def create(self, *subfolders: Path) -> None:
        """Create the folder and the given subfolders; a UserError if it is not writable."""
        try:
            for folder in (self.root, *subfolders):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".writable"
            probe.write_text("")
            probe.unlink(missing_ok=True)  # another process of the run may have deleted it
        except OSError as error:
            raise UserError(
                f"run folder {self.root} cannot be written ({error.strerror}); choose another with paths.run_dir=..."
            ) from None

    def rewind_history(self, step: int) -> None:
        """Delete what was logged at ``step`` and later: training resumes there and logs it again."""
        parts = histories(self)
        rows = [row for part in parts for row in read_history(part) if float(row["step"]) < step]
        if rows:
            write_history(self.history, rows)
        for part in parts:
            if part != self.history or not rows:
                part.unlink()

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Hold the folder's lock, which is released when the process ends; a UserError if another process trains here."""
        with (self.root / LOCK).open("a+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by loaders' processes, unlike flock
            except BlockingIOError:
                raise UserError(
                    f"another process is training in {self.root}; wait until it has finished, or stop it"
                ) from None
            except OSError:  # the file system does not support locks
                log.debug("the file system of %s does not support locks", self.root)
            yield

    def is_occupied(self) -> bool:
        """Return whether another process trains here."""
        if not (self.root / LOCK).is_file():
            return False
        try:
            with self.occupied():
                return False
        except (UserError, OSError):
            return True


def slurm_job() -> str | None:
    """Return the number of this SLURM job, which stays when it is requeued; None outside of SLURM, or in a shell there."""
    return None if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") else os.environ.get("SLURM_JOB_ID")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none, or another content."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):  # unfinished, or damaged
        return {}
    return content if isinstance(content, dict) else {}


def histories(folder: RunFolder) -> list[Path]:
    """Return the CSV files of logged metrics: one, or several in order if an earlier version of this suite resumed the run."""
    earlier = sorted(folder.root.glob("metrics_*.csv"), key=lambda path: (len(path.name), path.name))
    return [path for path in (*earlier, folder.history) if path.is_file()]
