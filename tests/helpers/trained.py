"""One trained network of a whole test run, for the tests that only read it."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.train import train


class Trained:
    """A finished run on a miniature of NYUDv2, trained at a size larger than its images: there is padding to cut away.

    Args:
        folder: that holds the data set and the run.
    """

    def __init__(self, folder: Path) -> None:
        self.data, self.run = folder / "data", RunFolder(folder / "run")
        self.checkpoint = self.run.last

    def train(self) -> None:
        """Write the data set and train on it."""
        options = short_overrides(write_miniature(self.data), self.run.root, steps=20)
        train(compose_config(*options, "data.size=[64,80]", "trainer.val_check_interval=20", "pictures=2"))

    def files(self) -> dict[str, tuple[int, int]]:
        """Return size and time of writing of every file, by path."""
        found = {path: path.stat() for path in self.data.parent.rglob("*") if path.is_file()}
        return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def train_once(factory: pytest.TempPathFactory) -> Trained:
    """Return the trained run that all processes of pytest-xdist share; the first that asks trains it."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    trained = Trained(place)
    with FileLock(f"{place}.lock"):
        if not trained.run.metrics.is_file():
            trained.train()
    return trained
