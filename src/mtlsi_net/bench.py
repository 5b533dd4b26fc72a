"""Measure speed: ``python -m mtlsi_net.bench what=NAME [out=DIR] [data=nyud data.root=...]``."""

import time
from pathlib import Path

import hydra
from hydra.utils import get_object
from omegaconf import DictConfig

from mtlsi_net.utils.command_line import run_command
from mtlsi_net.utils.entry import user_errors
from mtlsi_net.utils.errors import UserError, choose

BENCHMARKS = {
    "loader": "mtlsi_net.benchmarks.loader.bench_loader",
    "boundary": "mtlsi_net.benchmarks.boundary.bench_boundary",
    "model": "mtlsi_net.benchmarks.model.bench_model",
    "scaling": "mtlsi_net.benchmarks.scaling.bench_scaling",
    "startup": "mtlsi_net.benchmarks.startup.bench_startup",
    "rooms": "mtlsi_net.benchmarks.rooms.bench_rooms",
    "train": "mtlsi_net.benchmarks.model.bench_train",
    "memory": "mtlsi_net.benchmarks.memory.bench_memory",
}
"""``what`` -> function from the configuration to a ``benchmarks.report.Report``; imported when chosen."""


def bench(cfg: DictConfig) -> None:
    """Run the benchmark that ``cfg.what`` names; write tables, plot and record to ``cfg.paths.run_dir``.

    Raises:
        UserError: there is none of that name, or nothing to measure.
    """
    if cfg.rounds < 1:
        raise UserError(f"rounds={cfg.rounds}; give at least 1")
    measure = get_object(choose("what", cfg.what, BENCHMARKS))
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    measure(cfg).publish(cfg.what, folder, cfg.seed, time.perf_counter() - start)


@hydra.main(config_path="pkg://mtlsi_net.conf", config_name="bench", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Measure, print and write what was found."""
    with user_errors():
        bench(cfg)


if __name__ == "__main__":
    run_command("bench", main)
