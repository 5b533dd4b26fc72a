"""Logger that writes ``metrics.csv``: all that a run logged over time, in one file however often it is resumed."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import read_history, write_history
from mtlsi_net.core.run_folder import RunFolder


class HistoryLogger(Logger):
    """Writes ``metrics.csv`` of the run folder, and continues an existing one, which Lightning's own CSV logger deletes.

    A new column rewrites the file, atomically. ``every``: optimiser steps between two writes.
    """

    def __init__(self, save_dir: str, every: int = 100) -> None:
        super().__init__()
        self.path, self.every = RunFolder(Path(save_dir)).history, every
        self._columns: list[str] | None = None
        self._rows: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """The kind of logger."""
        return "history"

    @property
    def version(self) -> str:
        """Empty: there is one history a run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Keep nothing: the configuration has its own file."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep a row for the next write."""
        self._rows.append({**{key: float(value) for key, value in metrics.items()}, "step": step})
        if step is not None and (step + 1) % self.every == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the rows since the last time; a UserError if the file cannot be written."""
        try:
            if self._rows:
                self._write()
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror}); checkpoints are kept") from None
        self._rows = []

    def _write(self) -> None:
        new = {key for row in self._rows for key in row}
        if self._columns is None or not new <= set(self._columns) or not self.path.is_file():
            rows = [*read_history(self.path), *self._rows]
            write_history(self.path, rows)
            self._columns = sorted({key for row in rows for key in row})
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerows(self._rows)
            file.flush()
            os.fsync(file.fileno())

    @rank_zero_only
    def finalize(self, status: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Write what is left."""
        self.save()
