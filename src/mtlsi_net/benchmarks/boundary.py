"""Speed of boundary scoring: one image on one core, many on all, and what compiling costs once."""

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mtlsi_net.benchmarks.tables import spread, write_csv
from mtlsi_net.boundary_scoring.files import Job, count_image, read_prediction, read_reference
from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.presets import Preset, make_preset
from mtlsi_net.record import describe_run
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.io import write_json
from mtlsi_net.utils.processes import map_in_processes

matplotlib.use("Agg")

log = logging.getLogger(__name__)

SETTINGS = {
    "99 thresholds, no NMS": make_preset("plain", {"max_dist": 0.011}),
    "101 thresholds, NMS": make_preset("nyud", {"truth": "boundaries"}),
}
"""Both at NYUDv2's distance of a match; the ground truth is taken as stored."""
PUBLISHED = (654, 2498)
"""Images of the published lists: NYUDv2, PASCAL-Context."""
COPIES = 48
"""Of the image, that all cores score."""


def bench_boundary(cfg: DictConfig) -> dict[str, NDArray[np.float64]]:
    """Measure ``cfg.boundary.pred`` against ``cfg.boundary.gt``; write table, plot and record to ``cfg.paths.run_dir``.

    Returns:
        Setting -> processor seconds for one image on one core, one value a round.

    Raises:
        UserError: files that cannot be used.
    """
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    job = (Path(cfg.boundary.pred), [Path(cfg.boundary.gt)])
    for key in ("pred", "gt"):
        if not Path(cfg.boundary[key]).is_file():
            raise UserError(f"boundary.{key}={cfg.boundary[key]} is no file; give a picture, boundary.{key}=FILE")
    seconds = measure(job, cfg.rounds)
    rows = []
    for name, values in seconds.items():
        median, low, high = spread(values)
        row = {"setting": name, "ms": 1e3 * median, "low ms": 1e3 * low, "high ms": 1e3 * high}
        row["images/s, all cores"] = throughput(job, SETTINGS[name])
        row |= {f"s for {count}, one core": count * median for count in PUBLISHED}
        row |= {f"s for {count}, all cores": count / row["images/s, all cores"] for count in PUBLISHED}
        rows.append({key: value if isinstance(value, str) else round(float(value), 2) for key, value in row.items()})
    write_csv(folder / "boundary.csv", rows)
    compiling = compile_seconds(job)
    write_json(
        folder / "bench.json", {**describe_run(cfg.seed, {}), "rows": rows, "seconds of a first process": compiling}
    )
    draw(seconds, folder / "boundary.png")
    table = Table("", *SETTINGS, title=str(cfg.boundary.pred))
    for key in list(rows[0])[1:]:
        table.add_row(key, *(str(row[key]) for row in rows))
    Console().print(table)
    log.info("one image in a new process: %.1f s when it must compile, %.1f s afterwards", *compiling.values())
    log.info("everything is in %s", folder)
    return seconds


def measure(job: Job, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Return each setting's processor seconds of this thread for one image, round by round; settings take turns."""
    soft, reference = read_prediction(job[0]), read_reference(job[1], SETTINGS["101 thresholds, NMS"])
    seconds = {name: np.zeros(rounds + 1) for name in SETTINGS}
    for number in track(range(rounds + 1), "boundary", transient=True):
        for name, preset in SETTINGS.items():
            start = time.thread_time()
            count_matches(soft, true_boundaries(reference, preset), preset)
            seconds[name][number] = time.thread_time() - start
    return {name: values[1:] for name, values in seconds.items()}  # the first round warms up


def throughput(job: Job, preset: Preset) -> float:
    """Return images a second on all cores, files included; the processes' start is left out."""
    work = map_in_processes(partial(count_image, preset=preset), [job] * COPIES)
    marks = [time.perf_counter() for _ in work]
    half = COPIES // 2
    return half / (marks[-1] - marks[half - 1])


def compile_seconds(job: Job) -> dict[str, float]:
    """Return the seconds that a new process needs for one image, without and with a cache of compiled code."""
    program = (
        "import sys; from pathlib import Path; from mtlsi_net.boundary_scoring.files import count_image; "
        "from mtlsi_net.metrics.boundary.presets import make_preset; "
        "count_image((Path(sys.argv[1]), [Path(sys.argv[2])]), make_preset('nyud'))"
    )
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for state in ("compiling", "compiled"):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", program, str(job[0]), str(job[1][0])],
                env={**os.environ, "NUMBA_CACHE_DIR": cache},
                check=True,
            )
            found[state] = round(time.perf_counter() - start, 2)
    return found


def draw(seconds: Mapping[str, NDArray[np.float64]], path: Path) -> None:
    """Draw each setting's rounds as a box."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.boxplot([1e3 * values for values in seconds.values()], tick_labels=list(seconds))
    axes.set(ylabel="ms an image, one core", title="boundary scoring")
    axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
