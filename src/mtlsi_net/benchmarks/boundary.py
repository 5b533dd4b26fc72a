"""Speed of boundary scoring: one image on one core, many images on all cores."""

import time
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from mtlsi_net.benchmarks.report import Report, box_plot, quartiles, take_turns
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.machine import available_cores
from mtlsi_net.core.parallel import map_in_processes
from mtlsi_net.engine.boundary_files import Job, count_image, read_prediction, read_reference
from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.presets import Preset, make_preset

SETTINGS = {
    "99 thresholds, no NMS": make_preset("plain", {"max_dist": 0.011}),
    "101 thresholds, NMS": make_preset("nyud", {"truth": "boundaries"}),
}
"""Both with NYUDv2's maximum distance of a match; the ground truth is used as stored."""
PUBLISHED = (654, 2498)
"""Numbers of images of the published lists: NYUDv2, PASCAL-Context."""
COPIES = 24
"""Copies of the image that each core scores."""


def bench_boundary(cfg: DictConfig) -> Report:
    """Measure ``cfg.boundary.pred`` against ``cfg.boundary.gt``."""
    job = open_pictures(cfg)
    soft, reference = read_prediction(job[0]), read_reference(job[1], SETTINGS["101 thresholds, NMS"])

    def score(name: str, _: int) -> dict[str, float]:
        start = time.thread_time()
        count_matches(soft, true_boundaries(reference, SETTINGS[name]), SETTINGS[name])
        return {name: time.thread_time() - start}

    seconds = take_turns([partial(score, name) for name in SETTINGS], cfg.rounds, "boundary")
    rows = []
    for name, preset in SETTINGS.items():
        median = seconds[name].median()
        speed = throughput(job, preset)
        row = {"setting": name, **quartiles(1e3 * seconds[name], "{} ms", 2), "images/s, all cores": round(speed, 2)}
        row |= {f"s for {count}, one core": round(count * median, 2) for count in PUBLISHED}
        rows.append(row | {f"s for {count}, all cores": round(count / speed, 2) for count in PUBLISHED})
    figure = box_plot(1e3 * seconds, "ms: boundary scoring of an image, one core")
    return Report({"boundary": rows}, figure, str(cfg.boundary.pred))


def open_pictures(cfg: DictConfig) -> Job:
    """Return the files of ``cfg.boundary``, prediction and ground truth; a UserError if one is missing."""
    for key in ("pred", "gt"):
        if not Path(cfg.boundary[key]).is_file():
            raise UserError(
                f"boundary.{key}={cfg.boundary[key]} is not a file; pass a picture with boundary.{key}=FILE"
            )
    return Path(cfg.boundary.pred), [Path(cfg.boundary.gt)]


def throughput(job: Job, preset: Preset) -> float:
    """Return images per second on all cores, including file access, excluding the processes' start."""
    count = COPIES * available_cores()
    work = map_in_processes(partial(count_image, preset=preset), [job] * count, chunk=1)  # larger ones end together
    marks = [time.perf_counter() for _ in work]
    half = count // 2
    return (count - half) / (marks[-1] - marks[half - 1])
