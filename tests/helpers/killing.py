"""Training commands as real processes that are signalled or killed."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.commands import Command

PATIENCE = 300.0


def start(overrides: Sequence[str], cwd: Path, **environment: str) -> Command:
    """Start training with one thread; its output comes with ``communicate``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    own = kept | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"} | environment
    return Command("mtlsi_net.train", *overrides, cwd=cwd, environment=own)


def wait_for(condition: Callable[[], bool], process: Command) -> bool:
    """Wait until ``condition`` holds; False if the process ended before, or nothing happened for long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False
