"""Speed of data loading in one thread, relative to decoding the same files alone."""

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig

from mtlsi_net.benchmarks.report import Report, Row, quartiles, take_turns
from mtlsi_net.core.config import check_complete
from mtlsi_net.core.errors import UserError
from mtlsi_net.data.augmentation import TrainPipeline
from mtlsi_net.data.dataset import MultiTaskDataset, collate, prepare_worker
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.files import read_pixels
from mtlsi_net.data.images import read_image
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.sampling import Draw, sample_rng
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.engine.build import build_data, build_tasks

log = logging.getLogger(__name__)

DECODE, TRAIN, EVALUATE, STEP = "decoding the files alone", "training pipeline", "evaluation pipeline", "step: "
VALUES = "bytes to values, on the device that trains; here one core"


def bench_loader(cfg: DictConfig) -> Report:
    """Measure decoding, the pipelines and the steps of training."""
    check_complete(cfg)
    data = build_data(cfg, build_tasks(cfg))
    prepare_worker(0)
    train, plain = data.datasets["train"], data.datasets["train_scored"]
    if not isinstance(train.pipeline, TrainPipeline):
        raise UserError("what=loader measures the training pipeline, but data.augment=false; set data.augment=true")
    specs, count = train.reader.specs, min(cfg.images, len(train))
    samples = [index * len(train) // count for index in range(count)]

    def load(number: int) -> dict[str, float]:
        """Return the mean seconds over the samples; all take turns at every sample, so that other load affects all."""
        seconds: dict[str, float] = {}
        for sample in samples:
            for timings in (
                timed(DECODE, decode_alone, train.reader, train.ids[sample]),
                timed(TRAIN, train.__getitem__, Draw(number, sample)),
                timed(EVALUATE, plain.__getitem__, Draw(0, sample)),
                time_steps(train, number, sample),
                timed(VALUES, batch_values, collate([train[Draw(number, sample)]], specs), specs),
            ):
                seconds |= {name: seconds.get(name, 0.0) + took for name, took in timings.items()}
        return {name: took / count for name, took in seconds.items()}

    return report(take_turns([load], cfg.rounds, "loader"))


def decode_alone(reader: SampleReader, sample_id: str) -> list[NDArray[Any]]:
    """Return the arrays in a sample's files as they are stored, unchecked, with its reader's decoders."""
    arrays = []
    for name in (IMAGE, *reader.specs):
        for path in reader.files(name, sample_id):
            if path.suffix == ".npy":
                arrays.append(np.load(path))
            elif path.suffix in (".png", ".jpg"):
                if name == IMAGE:
                    arrays.append(read_image(path))
                else:
                    arrays.append(read_pixels(path, "RGB" if reader.specs[name].channels == 3 else "L"))
            else:
                raise UserError(f"{path}: what=loader decodes only .png, .jpg and .npy; use data=nyud")
    return arrays


def timed(name: str, work: Callable[..., object], *arguments: object) -> dict[str, float]:
    """Return the seconds of ``work`` on its arguments, as ``name``."""
    start = time.perf_counter()
    work(*arguments)
    return {name: time.perf_counter() - start}


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


def report(seconds: pd.DataFrame) -> Report:
    """Return table, plot and record of the seconds for one image."""
    rows: list[Row] = []
    for name in seconds:
        speed = round(1 / seconds[name].median(), 1) if name in (DECODE, TRAIN, EVALUATE) else np.nan
        rows.append({"what": name, **quartiles(1e3 * seconds[name], "{} ms", 2), "images/s": speed})
    shares = {}
    for name in (TRAIN, EVALUATE):
        shares[name] = list(quartiles(100 * seconds[DECODE] / seconds[name], "{}", 1).values())
        log.info("%s: %s %% of the speed of %s (quartiles %s to %s)", name, shares[name][0], DECODE, *shares[name][1:])
    record = {"percent of the speed of decoding alone (median, quartiles)": shares}
    return Report({"loader": rows}, draw(rows), "loading, one thread; times of an image", record)


def draw(rows: list[Row]) -> Figure:
    """Draw images a second, and where the time of the training pipeline goes."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    speeds = {row["what"]: row["images/s"] for row in rows if not np.isnan(row["images/s"])}
    steps = {row["what"].removeprefix(STEP): row["ms"] for row in rows if row["what"].startswith(STEP)}
    panels = {"images/s, one thread": speeds, "ms an image": steps}
    for axis, (label, values) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        axis.bar_label(axis.barh(list(values), list(values.values())), padding=2, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.16)
        axis.set_xlabel(label)
        axis.tick_params(labelsize=8)
    return figure
