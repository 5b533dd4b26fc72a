"""Saved predictions, anybody's, against the labels of a data set: from configuration to run folder."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from mtlsi_net import assemble
from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.data.dataset import MultiTaskDataset, collate
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.predictions import PredictionFiles, find_predictions, names_of, read_prediction
from mtlsi_net.data.sampling import Draw
from mtlsi_net.data.transforms import TestPipeline
from mtlsi_net.record import describe_scores
from mtlsi_net.report import print_classes, publish, write_classes
from mtlsi_net.specs import IGNORE
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.image_sums import write_image_sums
from mtlsi_net.tasks.scores import Scores, TaskMetrics
from mtlsi_net.trainer import open_run
from mtlsi_net.utils.config_checks import check_complete
from mtlsi_net.utils.errors import UserError, shown
from mtlsi_net.utils.io import write_json
from mtlsi_net.utils.run_folder import RunFolder

log = logging.getLogger(__name__)

Size = tuple[int, int]


@dataclass(frozen=True)
class ScoreResult:
    """Where the scores were written, and task -> metric -> value."""

    folder: RunFolder
    scores: Scores


@dataclass(frozen=True)
class _Predictions:
    """What is scored: predictions of some tasks, and the images and labels they belong to."""

    tasks: dict[str, Task]
    files: dict[str, PredictionFiles]
    data: MultiTaskDataModule
    labels: MultiTaskDataset
    one_based: bool

    @property
    def ids(self) -> Sequence[str]:
        """The images to score."""
        return self.labels.ids

    def missing(self) -> dict[str, list[str]]:
        """Return task -> ids without prediction, of the tasks that lack any."""
        lacking = {name: [i for i in self.ids if files.path(i) is None] for name, files in self.files.items()}
        return {name: ids for name, ids in lacking.items() if ids}

    def add_to(self, metrics: TaskMetrics, index: int) -> None:
        """Feed the metrics with one image's predictions, of the tasks that have one."""
        specs = self.labels.reader.specs
        batch = batch_values(collate([self.labels[Draw(0, index)]], specs), specs)
        paths = {name: path for name, files in self.files.items() if (path := files.path(self.ids[index]))}
        metrics.update(
            {name: self._value(path, name, batch["targets"][name][0]) for name, path in paths.items()}, batch
        )

    def _value(self, path: Path, name: str, label: Tensor) -> Tensor:
        """Return a prediction, (1, C, H, W), of a label (C, H, W)."""
        value = read_prediction(path, self.labels.reader.specs[name], one_based=self.one_based)
        _check_size(path, value.shape, label.shape[1:], self.data.size)
        planes = torch.from_numpy(value.transpose(2, 0, 1).copy())
        bare = planes.isnan().any(dim=0) & (label != IGNORE).all(dim=0)
        if bare.any():
            raise UserError(
                f"{path}: {int(bare.sum())} labelled pixels have no prediction (no class, NaN or infinite); "
                "every pixel with a label needs one"
            )
        return planes.nan_to_num()[None]


def score(cfg: DictConfig) -> ScoreResult:
    """Score the files in ``cfg.pred`` on the validation images; leave scores and a record in ``cfg.paths.run_dir``.

    Raises:
        UserError: no predictions, missing ones, or files that cannot be used.
    """
    started = time.monotonic()
    check_complete(cfg)
    if cfg.data.scale != 1:
        raise UserError(
            f"data.scale={cfg.data.scale}: saved predictions are scored at the labels' own size; set it to 1"
        )
    folder, _ = open_run(cfg)
    predictions = _find(cfg)
    missing = predictions.missing()
    _check_missing(missing, predictions, allowed=cfg.allow_missing)
    metrics = _measure(predictions, cfg.workers or os.cpu_count() or 1, progress=cfg.progress)

    scores, classes, stage = metrics.compute(), metrics.compute_classes(), predictions.data.val_stage
    write_json(folder.metrics, {"last": {stage: scores}})
    write_classes({stage: classes}, folder)
    write_image_sums(folder.per_image, metrics.image_sums())
    seconds = {"score": time.monotonic() - started}
    found = {
        "folder": str(cfg.pred),
        "files": {name: files.pattern for name, files in predictions.files.items()},
        "images": len(predictions.ids),
        "missing": {name: len(ids) for name, ids in missing.items()},
    }
    record = describe_scores(cfg, predictions.data, predictions.tasks, seconds)
    write_json(folder.record, record | {"predictions": found})
    publish({str(cfg.pred): scores}, predictions.tasks, f"{predictions.data.root} ({stage})", folder)
    if cfg.print_classes:
        print_classes(classes)
    return ScoreResult(folder, scores)


def _find(cfg: DictConfig) -> _Predictions:
    """Look for predictions of every task; those without any are left out, aloud."""
    root, tasks = Path(cfg.pred), assemble.build_tasks(cfg)
    if not root.is_dir():
        raise UserError(f"pred={root} is no folder; give the one that holds the predictions")
    everything = assemble.open_data(cfg, tasks)
    everything.prepare_data()
    ids = everything.split_ids(everything.make_reader(everything.targets))[1]
    places = {name: find_predictions(root, name, task.target, ids) for name, task in tasks.items()}
    files = {name: place for name, place in places.items() if place is not None}
    for name in [name for name in tasks if name not in files]:
        log.warning("%s: no %s (looked for %s); not scored", root, name, _looked_for(name))
    if not files:
        looked = "; ".join(map(_looked_for, tasks))
        raise UserError(f"{root} holds no predictions of this data set; looked for {looked}")
    own = {name: tasks[name] for name in tasks if name in files}
    data = assemble.open_data(cfg, own)
    reader = data.reader(data.targets)
    reader.check_files(ids)
    without = [i for name in files if data.targets[name].reference for i in ids if files[name].path(i) is None]
    unpadded = TestPipeline((1, 1), data.targets)
    labels = data.scored_dataset(reader, ids, unpadded, data.val_stage, lacking=without)
    log.info("%s: %s of %d %s images of %s", root, ", ".join(own), len(ids), data.val_stage, data.root)
    return _Predictions(own, files, data, labels, cfg.one_based)


def _looked_for(task: str) -> str:
    return f"folder {' or '.join(names_of(task))}, files <id>_{task}.*"


def _check_missing(missing: Mapping[str, Sequence[str]], predictions: _Predictions, *, allowed: bool) -> None:
    total = len(predictions.ids)
    for name, ids in missing.items():
        if len(ids) == total:
            pattern = predictions.files[name].pattern
            raise UserError(
                f"{name}: none of the {total} images has a prediction {pattern}, e.g. {ids[0]}; check the names"
            )
    if missing and not allowed:
        words = "; ".join(f"{name}: {len(ids)} of {total}, {shown(ids)}" for name, ids in missing.items())
        raise UserError(f"predictions are missing ({words}); allow_missing=true scores the images that have one")
    for name, ids in missing.items():
        log.warning("%s: scored on %d of %d images; without %s", name, total - len(ids), total, shown(ids))


def _measure(predictions: _Predictions, workers: int, *, progress: bool) -> TaskMetrics:
    """Read and count on several threads, each with metrics of its own; return all of them in one."""
    metrics = [TaskMetrics(predictions.tasks, keep_images=True) for _ in range(workers)]
    free: SimpleQueue[TaskMetrics] = SimpleQueue()
    for one in metrics:
        free.put(one)

    def add(index: int) -> None:
        one = free.get()
        try:
            predictions.add_to(one, index)
        finally:  # another thread may wait for it
            free.put(one)

    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(add, range(len(predictions.ids)))
        for _ in track(done, "scoring", len(predictions.ids), transient=True, disable=not progress):
            pass
    for other in metrics[1:]:
        metrics[0].merge(other)
    return metrics[0]


def _check_size(path: Path, have: Sequence[int], size: Sequence[int], padded_to: Size) -> None:
    if have[:2] == size[:2]:
        return
    padded = tuple(max(side, want) for side, want in zip(size[:2], padded_to, strict=True))
    hint = ""
    if have[:2] == padded:
        top, left = ((big - small) // 2 for big, small in zip(padded, size[:2], strict=True))
        hint = f" It has the padded size: cut rows {top} to {top + size[0]} and columns {left} to {left + size[1]} out."
    raise UserError(
        f"{path}: prediction of {have[0]}x{have[1]} pixels for a label of {size[0]}x{size[1]}; predictions are never "
        f"resized, save them at the image's size.{hint}"
    )
