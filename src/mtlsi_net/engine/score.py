"""Scoring of saved predictions, from any method, against a data set's labels."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from mtlsi_net.core.commands import compare_line
from mtlsi_net.core.config import check_complete
from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.io import write_json
from mtlsi_net.core.machine import available_cores
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.core.types import Batch
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.dataset import MultiTaskDataset, collate
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.encoding import Encoding
from mtlsi_net.data.label_checks import LabelFacts, check_plausible, describe_values
from mtlsi_net.data.sampling import Draw
from mtlsi_net.data.transforms import TestPipeline
from mtlsi_net.engine.build import build_tasks, open_data
from mtlsi_net.engine.record import describe_scores
from mtlsi_net.engine.report import print_classes, publish, write_classes, write_confusions
from mtlsi_net.engine.saved_predictions import PredictionFiles, find_predictions, names_of, read_prediction
from mtlsi_net.engine.trainer import open_scoring
from mtlsi_net.metrics.per_image import write_image_sums
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.metrics import Scores, TaskMetrics

log = logging.getLogger(__name__)

AHEAD = 4
"""Images for each thread that are read before they are scored."""


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
    encoding: Encoding
    skipped: list[str]

    def read(self, index: int) -> tuple[dict[str, Tensor], Batch]:
        """Return one image's predictions, (1, C, H, W) of the tasks that have one, NaN where none, and its labels as a batch."""
        specs, sample_id = self.labels.reader.specs, self.labels.ids[index]
        batch = batch_values(collate([self.labels[Draw(0, index)]], specs), specs)
        paths = {name: path for name, files in self.files.items() if (path := files.path(sample_id))}
        return {name: self._value(path, name, batch["targets"][name][0]) for name, path in paths.items()}, batch

    def _value(self, path: Path, name: str, label: Tensor) -> Tensor:
        """Return a prediction, (1, C, H, W), of a label (C, H, W)."""
        spec = self.labels.reader.specs[name]
        value = read_prediction(path, spec, self.encoding)
        _check_size(path, value.shape, label.shape[1:], self.data.size)
        planes = torch.from_numpy(value.transpose(2, 0, 1).copy())
        bare = planes.isnan().any(dim=0) & (label != spec.ignore).all(dim=0)
        if bare.any():
            raise UserError(
                f"{path}: {int(bare.sum())} labelled pixels have no prediction (no class, NaN or infinite); "
                "every pixel with a label needs one"
            )
        return planes[None]


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
    folder, _ = open_scoring(cfg)
    predictions = _find(cfg)
    missing = _check_missing(predictions, allowed=cfg.allow_missing)
    metrics = TaskMetrics(predictions.tasks, keep_images=True)  # scores on threads of its own
    count = len(predictions.labels.ids)
    read = _read_ahead(predictions, count, cfg.workers or available_cores())
    check = _EncodingCheck(predictions)
    for values, batch in track(read, "scoring", count, transient=True, disable=not cfg.progress):
        check.add(values, batch)
        metrics.update({name: value.nan_to_num() for name, value in values.items()}, batch)

    scores, classes, stage = metrics.compute(), metrics.compute_classes(), predictions.data.val_stage
    write_json(folder.metrics, {"last": {stage: scores}})
    write_classes({stage: classes}, folder)
    write_confusions({stage: metrics.compute_confusions()}, folder)
    write_image_sums(folder.per_image, metrics.image_sums())
    seconds = {"score": time.monotonic() - started}
    found = {
        "folder": str(cfg.pred),
        "files": {name: files.pattern for name, files in predictions.files.items()},
        "images": count,
        "missing": {name: len(ids) for name, ids in missing.items()},
    }
    record = describe_scores(cfg, predictions.data, predictions.tasks, seconds)
    write_json(folder.record, record | {"predictions": found})
    publish({str(cfg.pred): scores}, predictions.tasks, f"{predictions.data.root} ({stage})", folder)
    if cfg.print_classes:
        print_classes(classes)
    for text in (*check.warnings(), *predictions.skipped, *_partial(missing, count), *_unused(predictions)):
        log.warning("%s", text)
    log.info("scores are in %s; compare them: %s", folder.root, compare_line(folder.root))
    return ScoreResult(folder, scores)


class _EncodingCheck:
    """Facts of predictions and labels while they are scored, to find those that are probably misread."""

    def __init__(self, predictions: _Predictions) -> None:
        self._of = predictions
        self._predicted, self._labels = ({name: LabelFacts() for name in predictions.tasks} for _ in range(2))

    def add(self, values: Mapping[str, Tensor], batch: Batch) -> None:
        """Add one image."""
        for name, value in values.items():
            spec = self._of.tasks[name].target
            self._predicted[name].add(describe_values(value[0].numpy(), spec))
            self._labels[name].add(describe_values(batch["targets"][name][0].numpy(), spec))

    def warnings(self) -> Iterator[str]:
        """Yield a line for each task whose predictions, and for each whose labels, are probably misread."""
        tasks, reader = self._of.tasks, self._of.labels.reader
        specs = {name: task.target for name, task in tasks.items()}
        names = {name: task.class_names for name, task in tasks.items() if task.class_names}
        ends = {
            name: (self._labels[name].histogram[0], self._labels[name].histogram[len(names[name]) - 1])
            for name in names
        }
        both = {
            name: own for name, own in names.items() if all(ends[name])
        }  # a class without labels needs no prediction
        for finding in check_plausible(self._predicted, specs, both, dict.fromkeys(tasks, self._of.encoding)):
            yield f"predictions: {finding.text}"
        encodings = {name: reader.encoding(name) for name in tasks}
        for finding in check_plausible(self._labels, specs, {} if self._of.data.official else names, encodings):
            yield f"labels: {finding.text}"


def _find(cfg: DictConfig) -> _Predictions:
    """Look for predictions of every task; those without any are skipped with a warning."""
    root, tasks = Path(cfg.pred), build_tasks(cfg)
    if not root.is_dir():
        raise UserError(f"pred={root} is no folder; give the one that holds the predictions")
    everything = open_data(cfg, tasks)
    everything.prepare_data()
    ids = everything.split_ids(everything.make_reader(everything.targets))[1]
    places = {name: find_predictions(root, name, task.target, ids) for name, task in tasks.items()}
    files = {name: place for name, place in places.items() if place is not None}
    skipped = [f"{root}: no {name} (looked for {_looked_for(name)}); not scored" for name in tasks if name not in files]
    if not files:
        looked = "; ".join(map(_looked_for, tasks))
        raise UserError(f"{root} holds no predictions of this data set; looked for {looked}")
    own = {name: tasks[name] for name in tasks if name in files}
    data = open_data(cfg, own)
    reader = data.reader(data.targets)
    reader.check_files(ids)
    without = [i for name in files if data.targets[name].reference for i in ids if files[name].path(i) is None]
    unpadded = TestPipeline((1, 1), data.targets)
    labels = data.scored_dataset(reader, ids, unpadded, data.val_stage, lacking=without)
    log.info("%s: %s of %d %s images of %s", root, ", ".join(own), len(ids), data.val_stage, data.root)
    encoding = Encoding(cfg.depth_scale, not cfg.one_based, None, cfg.binary_max, prefix="")
    return _Predictions(own, files, data, labels, encoding, skipped)


def _looked_for(task: str) -> str:
    return f"folder {' or '.join(names_of(task))}, files <id>_{task}.*"


def _check_missing(predictions: _Predictions, *, allowed: bool) -> dict[str, list[str]]:
    """Return task -> ids without prediction, of the tasks that lack some; it is an error unless ``allowed``."""
    everything, missing = predictions.labels.ids, {}
    for name, files in predictions.files.items():
        ids = [sample_id for sample_id in everything if files.path(sample_id) is None]
        if ids and len(ids) == len(everything):
            raise UserError(
                f"{name}: none of the {len(ids)} images has a prediction {files.pattern}, e.g. {ids[0]}; check the names"
            )
        if ids:
            missing[name] = ids
    total = len(everything)
    if missing and not allowed:
        words = "; ".join(f"{name}: {len(ids)} of {total}, {shown(ids)}" for name, ids in missing.items())
        raise UserError(f"predictions are missing ({words}); allow_missing=true scores the images that have one")
    return missing


def _partial(missing: Mapping[str, Sequence[str]], total: int) -> Iterator[str]:
    """Yield a line for each task that lacks predictions of some images."""
    for name, ids in missing.items():
        yield f"{name}: scored on {total - len(ids)} of {total} images; without {shown(ids)}"


def _unused(predictions: _Predictions) -> Iterator[str]:
    """Yield a line for each task with files that belong to no scored image."""
    for name, files in predictions.files.items():
        if others := files.others(predictions.labels.ids):
            yield f"{name}: {len(others)} files belong to none of the scored images and were not read ({shown(others)})"


def _read_ahead(predictions: _Predictions, count: int, workers: int) -> Iterator[tuple[dict[str, Tensor], Batch]]:
    """Yield the predictions and labels of all images in order, read on several threads, a bounded number ahead."""
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, count, AHEAD * workers):
            yield from pool.map(predictions.read, range(first, min(first + AHEAD * workers, count)))


def _check_size(path: Path, have: Sequence[int], size: Sequence[int], padded_to: Sequence[int]) -> None:
    if have[:2] == size[:2]:
        return
    padded = tuple(map(max, size[:2], padded_to))
    hint = ""
    if have[:2] == padded:
        top, left = ((big - small) // 2 for big, small in zip(padded, size[:2], strict=True))
        hint = f" It has the padded size: cut rows {top} to {top + size[0]} and columns {left} to {left + size[1]} out."
    raise UserError(
        f"{path}: prediction of {have[0]}x{have[1]} pixels for a label of {size[0]}x{size[1]}; predictions are never "
        f"resized, save them at the image's size.{hint}"
    )
