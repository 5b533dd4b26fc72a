"""Measure speed: ``python -m mtlsi_net.bench what=NAME [out=DIR] [data=nyud data.root=...]``."""

import time
from pathlib import Path

from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command
from mtlsi_net.core.errors import choose


def bench(cfg: DictConfig) -> None:
    """Run the benchmark that ``cfg.what`` names; write tables, plot and record to ``cfg.paths.run_dir``.

    Raises:
        UserError: the benchmark is unknown, or has nothing to measure.
    """
    from mtlsi_net.benchmarks import boundary, loader, memory, model, prediction, rooms, scaling, scoring, startup

    benchmarks = {
        "loader": loader.bench_loader,
        "boundary": boundary.bench_boundary,
        "scoring": scoring.bench_scoring,
        "model": model.bench_model,
        "scaling": scaling.bench_scaling,
        "startup": startup.bench_startup,
        "rooms": rooms.bench_rooms,
        "train": model.bench_train,
        "predict": prediction.bench_predict,
        "memory": memory.bench_memory,
    }
    measure = choose("what", cfg.what, benchmarks)
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    measure(cfg).publish(cfg.what, folder, cfg.seed, time.perf_counter() - start)


if __name__ == "__main__":
    run_command("bench", bench)
