"""Paths and lock of a run folder."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.io import read_history, write_history

log = logging.getLogger(__name__)

LOCK = ".lock"
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"

KEPT = (
    "config.yaml",
    "metrics.json",
    "run.json",
    "metrics.csv",
    "per_image.npz",
    "table.md",
    "pictures/val.png",
    "pictures/dev.png",
)
"""Files of a run folder that W&B keeps too, so that ``compare wandb=...`` reads the same as ``compare runs=...``."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run's folder; created on first use."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Final scores: ``last``, ``best``, ``constant`` (stage -> task -> metric), ``model`` and ``gain``."""
        return self.root / "metrics.json"

    @property
    def table(self) -> Path:
        """The main metrics as a Markdown table."""
        return self.root / "table.md"

    @property
    def classes(self) -> Path:
        """IoU of every class (CSV), of tasks that have classes."""
        return self.root / "classes.csv"

    @property
    def per_image(self) -> Path:
        """What every image contributed to the last weights' scores."""
        return self.root / "per_image.npz"

    @property
    def record(self) -> Path:
        """Command, commit, seed, versions, hardware, durations."""
        return self.root / "run.json"

    @property
    def wandb_id(self) -> Path:
        """The id of the run's W&B run, which a resumed run continues."""
        return self.root / "wandb_id.txt"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``last.ckpt`` and ``best.ckpt`` (or ``best_on_test.ckpt``)."""
        return self.root / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint with all that training needs to resume."""
        return self.checkpoints / LAST

    @property
    def previous(self) -> Path:
        """The one before, until training has finished."""
        return self.checkpoints / PREVIOUS

    def has_checkpoint(self) -> bool:
        """Return whether the run can be resumed, unless its checkpoints are damaged."""
        return self.last.is_file() or self.previous.is_file()

    @property
    def earlier(self) -> Path:
        """The last checkpoint of a run that was in this folder before."""
        return self.checkpoints / "earlier.ckpt"

    @property
    def history(self) -> Path:
        """What was logged over time (CSV)."""
        return self.root / "metrics.csv"

    @property
    def pictures(self) -> Path:
        """Folder of PNG pictures."""
        return self.root / "pictures"

    def create(self, *subfolders: Path) -> None:
        """Make the folder, and the named ones inside it, and check that it can be written.

        Raises:
            UserError: it cannot.
        """
        try:
            for folder in (self.root, *subfolders):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".writable"
            probe.write_text("")
            probe.unlink(missing_ok=True)  # another process of the run may have been first
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
        """Let no other process train here meanwhile; the system lifts the lock when this one ends, however it ends.

        Raises:
            UserError: another does.
        """
        with (self.root / LOCK).open("a+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by loaders' processes, unlike flock
            except BlockingIOError:
                raise UserError(f"{self.root} is being trained by another process; wait for it, or end it") from None
            except OSError:  # a file system without locks
                log.debug("%s has no locks", self.root)
            yield

    def is_occupied(self) -> bool:
        """Say whether another process trains here."""
        if not (self.root / LOCK).is_file():
            return False
        try:
            with self.occupied():
                return False
        except (UserError, OSError):
            return True


def histories(folder: RunFolder) -> list[Path]:
    """Return the files of what was logged over time, those of a resumed run's earlier parts first.

    Runs of today have one.
    """
    earlier = sorted(folder.root.glob("metrics_*.csv"), key=lambda path: (len(path.name), path.name))
    return [path for path in (*earlier, folder.history) if path.is_file()]
