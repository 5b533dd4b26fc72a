"""Speed of loading: one process, one thread, against decoding the same files alone."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mtlsi_net import assemble
from mtlsi_net.benchmarks.tables import spread, write_csv
from mtlsi_net.data.augmentation import TrainPipeline
from mtlsi_net.data.dataset import MultiTaskDataset, collate, prepare_worker
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.readers import read_pixels
from mtlsi_net.data.sample_reader import SampleReader
from mtlsi_net.data.sampling import Draw, sample_rng
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.record import describe_run
from mtlsi_net.utils.config_checks import check_complete
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.io import write_json

log = logging.getLogger(__name__)

Job = Callable[[int, int], Mapping[str, float]]
"""(round, sample) -> what was done -> seconds."""
Seconds = Mapping[str, NDArray[np.float64]]
"""What was done -> seconds for one image, one value a round."""

DECODE, TRAIN, EVALUATE, STEP = "decoding the files alone", "training pipeline", "evaluation pipeline", "step: "
VALUES = "bytes to values, on the device that trains; here one core"


def bench_loader(cfg: DictConfig) -> Seconds:
    """Measure decoding, the pipelines and the steps of training; write table, plot and record to ``cfg.paths.run_dir``.

    Raises:
        UserError: data that cannot be used, or not be compared with plain decoding.
    """
    check_complete(cfg)
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    data = assemble.build_data(cfg, assemble.build_tasks(cfg))
    prepare_worker(0)
    train, plain = data.datasets["train"], data.datasets["train_scored"]
    if not isinstance(train.pipeline, TrainPipeline):
        raise UserError("what=loader: data.augment=false, so there is no training pipeline to measure; set it to true")
    count = min(cfg.images, len(train))
    samples = [index * len(train) // count for index in range(count)]
    jobs: list[Job] = [
        timed(DECODE, lambda _, sample: decode_alone(train.reader, train.ids[sample])),
        timed(TRAIN, lambda number, sample: train[Draw(number, sample)]),
        timed(EVALUATE, lambda _, sample: plain[Draw(0, sample)]),
        lambda number, sample: time_steps(train, number, sample),
        lambda number, sample: time_values(train, number, sample),
    ]
    start = time.perf_counter()
    seconds = measure(jobs, samples, cfg.rounds)
    write(seconds, folder, describe_run(cfg.seed, {"measuring": time.perf_counter() - start}))
    return seconds


def decode_alone(reader: SampleReader, sample_id: str) -> list[NDArray[Any]]:
    """Return the arrays in a sample's files as they are stored, unchecked, by the decoders that its reader uses."""
    arrays = []
    for name in (IMAGE, *reader.specs):
        for path in reader.files(name, sample_id):
            if path.suffix == ".npy":
                arrays.append(np.load(path))
            elif path.suffix in (".png", ".jpg"):
                colored = name == IMAGE or reader.specs[name].channels == 3
                arrays.append(read_pixels(path, "RGB" if colored else "L"))
            else:
                raise UserError(f"{path}: what=loader compares with decoding of .png, .jpg and .npy; take data=nyud")
    return arrays


def timed(name: str, work: Callable[[int, int], object]) -> Job:
    """Return a job that does ``work`` and tells its time."""

    def job(number: int, sample: int) -> dict[str, float]:
        start = time.perf_counter()
        work(number, sample)
        return {name: time.perf_counter() - start}

    return job


def time_steps(dataset: MultiTaskDataset, number: int, sample: int) -> dict[str, float]:
    """Return the seconds of reading and of each step of training, for the draws of one epoch and sample."""
    assert isinstance(dataset.pipeline, TrainPipeline)
    sample_id = dataset.ids[sample]
    steps = dataset.pipeline.seeded(sample_rng(dataset.seed, number, sample_id))
    marks = [time.perf_counter()]
    maps = dataset.reader.read(sample_id)
    marks.append(time.perf_counter())
    for step in steps:
        maps = step(**maps)
        marks.append(time.perf_counter())
    names = ["read and check", *(type(step).__name__ for step in steps)]
    return {STEP + name: took for name, took in zip(names, np.diff(marks).tolist(), strict=True)}


def time_values(dataset: MultiTaskDataset, number: int, sample: int) -> dict[str, float]:
    """Return the seconds that decoding a loaded sample takes, which is left to the device that trains."""
    specs = dataset.reader.specs
    stored = collate([dataset[Draw(number, sample)]], specs)
    start = time.perf_counter()
    batch_values(stored, specs)
    return {VALUES: time.perf_counter() - start}


def measure(jobs: Sequence[Job], samples: Sequence[int], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Return what the jobs tell, the mean over the samples, round by round.

    At every sample the jobs take turns, so that other load on the machine meets all alike; one more round comes first
    and is not counted.
    """
    totals: dict[str, NDArray[np.float64]] = {}
    for number in track(range(rounds + 1), "loader", transient=True):
        for sample in samples:
            for job in jobs:
                for name, took in job(number, sample).items():
                    totals.setdefault(name, np.zeros(rounds + 1))[number] += took
    return {name: total[1:] / len(samples) for name, total in totals.items()}


def write(seconds: Seconds, folder: Path, record: Mapping[str, Any]) -> None:
    """Write loader.csv, loader.png and bench.json, and print the table."""
    rows = [_row(name, values) for name, values in seconds.items()]
    write_csv(folder / "loader.csv", rows, end="\r\n")
    shares = {name: 100 * seconds[DECODE] / seconds[name] for name in (TRAIN, EVALUATE)}
    summary = {name: [round(float(value), 1) for value in spread(share)] for name, share in shares.items()}
    write_json(
        folder / "bench.json",
        {**record, "percent of the speed of decoding alone (median, quartiles)": summary, "rows": rows},
    )
    draw(seconds, folder / "loader.png")
    table = Table("", "ms an image", "quartiles", "images/s", title="loading, one thread")
    for row in rows:
        table.add_row(row["what"], row["ms"], f"{row['low ms']} to {row['high ms']}", row["images/s"])
    Console().print(table)
    for name, (median, low, high) in summary.items():
        log.info("%s: %s %% of the speed of %s (quartiles %s to %s)", name, median, DECODE, low, high)


def _row(name: str, values: NDArray[np.float64]) -> dict[str, str]:
    median, low, high = 1000 * spread(values)
    speed = "" if name.startswith(STEP) or name == VALUES else f"{1000 / median:.1f}"
    return {"what": name, "ms": f"{median:.2f}", "low ms": f"{low:.2f}", "high ms": f"{high:.2f}", "images/s": speed}


def draw(seconds: Seconds, path: Path) -> None:
    """Draw images a second, and where the time of the training pipeline goes."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    speeds = {name: 1 / np.median(seconds[name]) for name in (DECODE, TRAIN, EVALUATE)}
    steps = {name.removeprefix(STEP): 1000 * np.median(s) for name, s in seconds.items() if name.startswith(STEP)}
    for axis, values, label, form in (
        (left, speeds, "images/s, one thread", "%.0f"),
        (right, steps, "ms an image", "%.2f"),
    ):
        bars = axis.barh(list(values), list(values.values()), color="#4878a8")
        axis.bar_label(bars, fmt=form, padding=2, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.16)
        axis.set_xlabel(label)
        axis.tick_params(labelsize=8)
    figure.savefig(path, dpi=120)
