"""The run folder: what a run leaves behind, and under which names."""

import csv
import fcntl
import json
import logging
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.ranks import place

log = logging.getLogger(__name__)

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "timm",
    "hydra-core",
    "numpy",
    "opencv-python-headless",
)

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
        """The id of the run's W&B run, which a resumed run goes on with."""
        return self.root / "wandb_id.txt"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``last.ckpt`` and ``best.ckpt`` (or ``best_on_test.ckpt``)."""
        return self.root / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint with all that training needs to go on."""
        return self.checkpoints / LAST

    @property
    def previous(self) -> Path:
        """The one before, while training lasts."""
        return self.checkpoints / PREVIOUS

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
        """Forget what was logged at ``step`` and later: training goes on from there and logs it again."""
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


def read_history(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV of what was logged, their empty cells left out; a last line that was torn is dropped."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        text = file.read()
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(lines)]
    return [row for row in rows if "step" in row]


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of what was logged, in one piece (never half a file)."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({key for row in rows for key in row}))
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def histories(folder: RunFolder) -> list[Path]:
    """Return the files of what was logged over time, those of a resumed run's earlier parts first.

    Runs of today have one.
    """
    earlier = sorted(folder.root.glob("metrics_*.csv"), key=lambda path: (len(path.name), path.name))
    return [path for path in (*earlier, folder.history) if path.is_file()]


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``data`` in one piece (never half a file); NaN and infinities become null."""
    write_text(path, json.dumps(finite(data), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in one piece (never half of it)."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value with NaN and infinities as None, and keys as text."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def describe_run(seed: int, durations: Mapping[str, float], command: str | None = None) -> dict[str, Any]:
    """Return what a result must carry to be repeated: command, commit, seed, versions, hardware, durations in seconds.

    ``command`` replaces this process's own.
    """
    return {
        "command": command or shlex.join(["python", *sys.orig_argv[1:]]),
        "commit": _commit(),
        "seed": seed,
        "versions": {"python": platform.python_version(), "mtlsi-net": _version("mtlsi-net")}
        | {name: _version(name) for name in PACKAGES},
        "hardware": _hardware(),
        "seconds": {name: round(value, 2) for name, value in durations.items()},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the checkout's commit, with ``+changes`` if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _hardware() -> dict[str, Any]:
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "processes": place().size,
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
