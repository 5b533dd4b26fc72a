"""Dataset of one split, with samples as tensors, and their collation into batches."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.machine import keep_freed_memory
from mtlsi_net.core.signals import from_parent_only
from mtlsi_net.core.types import Batch, TargetSpec
from mtlsi_net.data.decoding import label_values, padding, target_values
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.sampling import Draw, sample_rng
from mtlsi_net.data.transforms import IMAGE, PAD_COLOR, VALID, Sample, reduce

log = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds to wait for a data folder that is gone; training then ends with the error of the file."""

Pipeline = Callable[[Sample, np.random.Generator], Sample]


class MultiTaskDataset(Dataset[Any]):
    """The samples of ``ids`` after ``pipeline``, which draws from ``sample_rng``, as tensors; indexed by ``Draw``.

    ``groups``: id -> ``Reference.groups``, for scoring; None yields no references, for training. ``hidden``: task -> ids
    whose label is taken as missing. ``seed`` and ``scale``: see ``MultiTaskDataModule``.
    """

    def __init__(
        self,
        reader: SampleReader,
        ids: Sequence[str],
        pipeline: Pipeline,
        *,
        seed: int,
        scale: float,
        groups: Mapping[str, tuple[str, ...]] | None = None,
        hidden: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.reader, self.ids, self.pipeline = reader, list(ids), pipeline
        self.seed, self.scale, self.groups, self.hidden = seed, scale, groups, dict(hidden or {})
        self.reading: Tensor | None = None  # worker -> (process, sample), shared with whoever asks when it died

    def __len__(self) -> int:
        return len(self.ids)

    def spread(self, count: int) -> list[int]:
        """Return the indices of ``count`` samples, evenly spaced, or of all if they are fewer.

        Where a task's labels are ``hidden`` in all of them, as many with its label are added.
        """
        chosen = set(_evenly_spaced(range(len(self)), count))
        for ids in self.hidden.values():
            labelled = [index for index in range(len(self)) if self.ids[index] not in ids]
            if chosen.isdisjoint(labelled):
                chosen.update(_evenly_spaced(labelled, count))
        return sorted(chosen)

    def labels(self, index: int) -> dict[str, Tensor]:
        """Return the untransformed targets of one sample, (C, H, W), invalid pixels 255."""
        sample = self._read(self.ids[index])
        return {name: label_values(sample[name], spec) for name, spec in self.reader.specs.items()}

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        worker = get_worker_info()
        if worker is not None and self.reading is not None:
            self.reading[worker.id] = torch.tensor([os.getpid(), draw.sample])
        try:
            return self._load(draw)
        except Exception as error:
            error.add_note(f"while loading {self.reader.files(IMAGE, self.ids[draw.sample])[0]}")
            raise

    def _load(self, draw: Draw) -> dict[str, Any]:
        sample_id = self.ids[draw.sample]
        sample = self._read(sample_id)
        height, width = sample[IMAGE].shape[:2]
        references = {
            name: self.reader.reference(name, sample_id, (height, width))._replace(groups=self.groups[sample_id])
            for name, spec in self.reader.specs.items()
            if self.groups is not None and spec.reference
        }
        if self.scale != 1.0:
            sample = reduce(sample, self.scale, self.reader.specs)
        sample = self.pipeline(sample, sample_rng(self.seed, draw.epoch, sample_id))
        maps = {name: torch.from_numpy(values) for name, values in sample.items()}
        targets = {name: maps[name] for name in self.reader.specs}
        parts = {"image": maps[IMAGE], "valid": maps[VALID], "pad_color": maps[PAD_COLOR], "targets": targets}
        return {**parts, "id": sample_id, "references": references}

    def _read(self, sample_id: str) -> Sample:
        without = [name for name, ids in self.hidden.items() if sample_id in ids]
        try:
            return self.reader.read(sample_id, without)
        except (UserError, OSError):
            if not wait_for_folder(self.reader.files(IMAGE, sample_id)[0].parent):
                raise
            return self.reader.read(sample_id, without)


def _evenly_spaced(indices: Sequence[int], count: int) -> list[int]:
    places = np.unique(np.linspace(0, len(indices) - 1, count).round().astype(int))
    return [indices[place] for place in places.tolist()]


def wait_for_folder(folder: Path) -> bool:
    """Wait up to ``PATIENCE`` seconds while a folder is missing, empty or unreadable, as where a network drive was lost.

    Returns whether it was, and is back.
    """
    if _is_there(folder):
        return False
    log.warning("%s is gone; waiting up to %g s for it", folder, PATIENCE)
    end = monotonic() + PATIENCE
    while monotonic() < end:
        if _is_there(folder):
            return True
        sleep(min(1.0, PATIENCE))
    return False


def _is_there(folder: Path) -> bool:
    try:
        return any(True for _ in folder.iterdir())
    except OSError:
        return False


def prepare_worker(worker: int) -> None:  # noqa: ARG001 - DataLoader's signature
    """Set up a process that loads samples; DataLoader calls this in each of its workers."""
    from_parent_only()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()


def collate(samples: Sequence[dict[str, Any]], specs: Mapping[str, TargetSpec]) -> Batch:
    """Return samples of one size (else a UserError) as a batch; targets that only some store in bytes become values."""
    sizes = {tuple(sample["image"].shape[1:]) for sample in samples}
    if len(sizes) > 1:
        raise UserError(f"images of different sizes in one batch {sorted(sizes)}: set data.eval_batch_size=1")
    references = [sample.pop("references") for sample in samples]
    for name, spec in specs.items():
        if len({sample["targets"][name].dtype for sample in samples}) > 1:  # a missing label has no bytes
            for sample in samples:
                outside = padding(sample["valid"])
                sample["targets"][name] = target_values(sample["targets"][name][None], spec, outside)[0]
    batch: Batch = default_collate(list(samples))
    batch["references"] = {name: [own[name] for own in references] for name in references[0]}
    return batch
