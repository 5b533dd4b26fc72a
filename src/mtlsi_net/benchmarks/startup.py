"""Start-up benchmark: a command's help and the import of a network, beside importing torch alone."""

import resource
import subprocess
import sys

from omegaconf import DictConfig

from mtlsi_net.benchmarks.report import Report, take_turns, timings

COMMANDS = {
    'python -c "import torch"': ["-c", "import torch"],
    "python -m mtlsi_net.train --help": ["-m", "mtlsi_net.train", "--help"],
    'python -c "import mtlsi_net.models.mtlsi"': ["-c", "import mtlsi_net.models.mtlsi"],
}


def bench_startup(cfg: DictConfig) -> Report:
    """Start new processes in turn and take their processor seconds."""
    jobs = [lambda _, name=name: {name: _processor_seconds(COMMANDS[name])} for name in COMMANDS]
    return timings("startup", take_turns(jobs, cfg.rounds, "startup"), "processor time of a new process", {})


def _processor_seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
