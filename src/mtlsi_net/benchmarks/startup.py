"""How long a command takes until it shows its help, against importing torch alone."""

import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from mtlsi_net.benchmarks.timings import Seconds, publish_timings, take_turns

COMMANDS = {
    'python -c "import torch"': ["-c", "import torch"],
    "python -m mtlsi_net.train --help": ["-m", "mtlsi_net.train", "--help"],
}


def bench_startup(cfg: DictConfig) -> Seconds:
    """Start new processes in turn; write table, plot and record to ``cfg.paths.run_dir``.

    Returns:
        Command -> processor seconds, one value a round.
    """
    jobs = {name: partial(_processor_seconds, arguments) for name, arguments in COMMANDS.items()}
    seconds = take_turns(jobs, cfg.rounds, "startup")
    publish_timings("startup", seconds, "processor time of a new process", cfg.seed, Path(cfg.paths.run_dir), {})
    return seconds


def _processor_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
