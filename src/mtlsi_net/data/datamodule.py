"""Data module that all data sets share: splits, datasets and loaders."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.image_sizes import ImageSizes
from mtlsi_net.core.machine import available_cores
from mtlsi_net.core.ranks import ProcessInfo, process_info
from mtlsi_net.core.types import SUBSET, Batch, TargetSpec
from mtlsi_net.data.cache import DecodedCache
from mtlsi_net.data.dataset import MultiTaskDataset, Pipeline, collate, prepare_worker
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.digests import SPLITS
from mtlsi_net.data.loader import ShareLoader, worker_context
from mtlsi_net.data.official import OFFICIAL, shipped_ids
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.sampling import EpochSampler, hidden_labels
from mtlsi_net.data.transforms import IMAGENET_MEAN, TestPipeline

log = logging.getLogger(__name__)

DEV_SHARE = 0.1
GUIDE = "semseg"
HEADERS = 8
"""Image files that are opened at once to learn their sizes."""

Share = Annotated[float, Field(gt=0, le=1)]


class MultiTaskDataModule(L.LightningDataModule, ABC):
    """Loaders of one data set.

    Args:
        root: the data set's folder.
        targets: task name -> TargetSpec of the tasks to load.
        size: (height, width) that training crops and all padding go to.
        batch_size: samples of one optimiser step, over all processes.
        micro_batch: most samples that a process takes at once, of its share of a step; None: the whole share.
        num_workers: processes of each loader; no more than there are cores.
        seed: of order and augmentation; the same for all processes.
        augment: False trains on the test pipeline (padding only).
        scale: every sample is reduced by this factor, in (0, 1], on loading (our choice; 1.0 is the protocol).
        dev_split: hold out a fixed part of the training ids, for tuning and for choosing a checkpoint.
        test_split: whether the ids in ``val`` are the data set's test set, so that what is chosen on them is named so.
        max_train_images: train on the first so many images of the list; None: on all.
        max_train_scores: score at most that many training images, evenly spaced, at the end; None scores all.
        max_val_images: validate on at most that many images, evenly spaced, during training; the end scores all.
        estimate_images: validation images, evenly spaced, on which slow scores are estimated during training.
        eval_batch_size: samples of one evaluation step and process; needs images of one size if above 1.
        crop_guide: class map of ``semseg``, which the crop rule reads; loaded even when that is not trained. None: as in
            ``guide_task``.
        pad_color: mean RGB in 0..1.
        allow_missing: an image without one task's label file contributes nothing to that task; otherwise an error.
        label_share: task -> share of the training images, in (0, 1], whose label of it is used; the others count as
            missing. Chosen by ``seed``; a smaller share's are among a larger one's. Scoring sees all labels.
        cache_dir: folder outside ``root`` for labels that are computed; None: compute them anew each time.
        decoded_dir: folder outside ``root`` for images and labels as arrays, so that each file is decoded once.
        files: task, or ``image``, -> [folder, suffix] of its files, where they differ from the NYUDv2 layout.
        extra_augmentations: image-only albumentations transforms that training images go through after the protocol's.
        prepare: called with ``root`` once a node before anything is read, to generate or fetch the files.
    """

    official: str | None = None
    """Name of the published data set, see ``mtlsi_net.data.official``; None for one's own."""
    terms: str = "your own data"
    """Under which terms the data may be used, in a few words: networks trained on it carry them along."""
    known_axes = True
    """Whether normals have x right, y up and z towards the camera; else that is not documented."""
    augmentation = "TrainPipeline"
    """Name of the training pipeline's class in ``mtlsi_net.data.augmentation``, which is slow to import."""
    dev_list: str | None = None
    """Name of the shipped list of held-out ids; without one, the last tenth of the training ids is held out."""

    def __init__(
        self,
        root: str,
        targets: Mapping[str, TargetSpec],
        *,
        size: tuple[PositiveInt, PositiveInt],
        batch_size: PositiveInt,
        micro_batch: PositiveInt | None = None,
        crop_guide: TargetSpec | None,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        augment: bool = True,
        scale: Share = 1.0,
        dev_split: bool = False,
        test_split: bool = False,
        max_train_images: PositiveInt | None = None,
        max_train_scores: PositiveInt | None = None,
        max_val_images: PositiveInt | None = None,
        estimate_images: PositiveInt = 64,
        eval_batch_size: PositiveInt = 1,
        pad_color: tuple[float, ...] = IMAGENET_MEAN,
        allow_missing: bool = False,
        label_share: Mapping[str, Share] | None = None,
        cache_dir: str | None = None,
        decoded_dir: str | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        extra_augmentations: Sequence[Any] = (),
        prepare: Callable[[Path], None] | None = None,
    ) -> None:
        super().__init__()
        if extra_augmentations and not augment:
            raise UserError(
                "data.extra_augmentations is set, but data.augment=false; set it to true, or leave them out"
            )
        self.extra_augmentations = extra_augmentations
        self.prepare = prepare
        self.root, self.size = Path(root), (int(size[0]), int(size[1]))
        self.batch_size, self.micro_batch = batch_size, micro_batch
        self.eval_batch_size, self.num_workers = eval_batch_size, num_workers
        self.seed, self.augment, self.scale, self.dev_split = seed, augment, scale, dev_split
        self.max_train_images, self.max_train_scores = max_train_images, max_train_scores
        self.max_val_images, self.test_split = max_val_images, test_split
        self.estimate_images = estimate_images
        self.pad_color = pad_color
        self.allow_missing = allow_missing
        self.label_share = dict(label_share or {})
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.decoded = DecodedCache(None if decoded_dir is None else Path(decoded_dir))
        if decoded_dir is not None and Path(decoded_dir).resolve().is_relative_to(self.root.resolve()):
            raise UserError(f"data.decoded_dir={decoded_dir} lies inside the data set {root}; give a folder outside it")
        self.files = dict(files or {})
        self.targets = dict(targets)
        for name in self.label_share:
            choose("label_share: task", name, self.targets)
        guides = {GUIDE: crop_guide} if augment and crop_guide is not None else {}
        self.train_specs = guides | self.targets
        self.datasets: dict[str, MultiTaskDataset] = {}
        self.scored_list = "val"  # the split list that ``datasets["val"]`` holds
        self.scored_split = "val"  # what a Trainer's validation takes: a key of ``datasets``
        self.counts_labels = False  # whether micro-batches carry the label counts of their step
        self.readings: list[tuple[MultiTaskDataset, Tensor]] = []  # what the loaders' processes are reading

    @abstractmethod
    def make_reader(self, specs: Mapping[str, TargetSpec]) -> SampleReader:
        """Return the data set's reader for ``specs``; callers take ``reader``."""

    def reader(self, specs: Mapping[str, TargetSpec]) -> SampleReader:
        """Return a reader that decodes each file once, if that is wanted."""
        reader = self.make_reader(specs)
        reader.decoded = self.decoded
        return reader

    @property
    def val_stage(self) -> str:
        """Name under which validation results are reported: ``val``, ``dev`` with a held-out part, or of another list."""
        return "dev" if self.dev_split and self.scored_list == "val" else self.scored_list

    @property
    def scored_set(self) -> str:
        """What the validation images are, in words."""
        return "held-out images" if self.dev_split else "the test set" if self.test_split else "the validation set"

    @property
    def training_split(self) -> str:
        """Key of ``datasets`` that is validated on during training; call ``setup`` first."""
        return "val_limited" if "val_limited" in self.datasets else "val"

    @property
    def estimates(self) -> bool:
        """Whether validations during training have more images than slow scores are estimated on."""
        return len(self.datasets[self.training_split]) > self.estimate_images

    def prepare_data(self) -> None:
        """Generate or fetch the files, where the data set can; one process a node."""
        if self.prepare is not None:
            self.prepare(self.root)

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 - Lightning's signature
        """Read the lists, check that all files are there, build the datasets.

        ``train``, ``train_plain`` (the same without augmentation), ``train_scored`` (all or some of those), ``val``, and,
        where ``max_val_images`` leaves some out, ``val_limited``.
        """
        if self.datasets:
            return
        reader = self.reader(self.targets)
        train_ids, val_ids = self.split_ids(reader)
        train_ids = train_ids[: self.max_train_images]
        reader.check_files([*train_ids, *val_ids])
        self._check_guide(train_ids)
        log.info("%s: %d training and %d %s images", self.root, len(train_ids), len(val_ids), self.val_stage)
        hidden = {name: hidden_labels(self.seed, name, share, train_ids) for name, share in self.label_share.items()}
        for name, without in hidden.items():
            labelled = len(train_ids) - len(without)
            log.info("%s: %d of %d training images have their label", name, labelled, len(train_ids))
        pipeline = TestPipeline(self.size, self.targets, self.pad_color)
        training = partial(MultiTaskDataset, ids=train_ids, seed=self.seed, scale=self.scale, hidden=hidden)
        plain = training(reader, pipeline=pipeline)
        scored_ids = _evenly(train_ids, self.max_train_scores or len(train_ids))
        self.datasets = {
            "train_plain": plain,
            "train_scored": self.scored_dataset(reader, scored_ids, pipeline, "train"),
            "train": training(self.reader(self.train_specs), pipeline=self._augmentation()) if self.augment else plain,
            "val": self.scored_dataset(reader, val_ids, pipeline, self.val_stage),
        }
        if self.max_val_images is not None and self.max_val_images < len(val_ids):
            some = _evenly(val_ids, self.max_val_images)
            self.datasets["val_limited"] = self.scored_dataset(reader, some, pipeline, self.val_stage)

    def split_ids(self, reader: SampleReader) -> tuple[list[str], list[str]]:
        """Return the ids to train on and to validate on."""
        train_ids, val_ids = reader.ids("train"), reader.ids("val")
        return self._hold_out(train_ids) if self.dev_split else (train_ids, val_ids)

    def score_list(self, split: str) -> None:
        """Score the images of ``train``, ``val`` or ``test`` from now on as ``datasets["val"]``; reads no list but theirs.

        Raises:
            UserError: there is no such list, or files are missing.
        """
        reader = self.reader(self.targets)
        if split == "test" and not reader.list_path(split).exists():
            published = "; the published test images of this data set are split=val" if self.official else ""
            raise UserError(f"split=test: {reader.list_path(split)} is missing, which lists the images{published}")
        held_out = self.dev_split and split != "test"
        ids = self.split_ids(reader)[split == "val"] if held_out else reader.ids(split)
        reader.check_files(ids)
        self.scored_list = split
        log.info("%s: %d %s images", self.root, len(ids), self.val_stage)
        pipeline = TestPipeline(self.size, self.targets, self.pad_color)
        self.datasets["val"] = self.scored_dataset(reader, ids, pipeline, self.val_stage)

    def recorded_splits(self, reader: SampleReader) -> tuple[str, ...]:
        """Return the splits whose files identify the data: both that every data set has, where the scored one is among them."""
        if self.scored_list not in SPLITS:
            return (self.scored_list,)
        return tuple(split for split in SPLITS if split == self.scored_list or reader.list_path(split).exists())

    def validation_sizes(self) -> ImageSizes:
        """Return the sizes of the validation images' files, before ``scale``; call ``setup`` first."""
        images = self.datasets["val"]
        with ThreadPoolExecutor(HEADERS) as pool:
            return ImageSizes.of(pool.map(images.reader.image_size, images.ids))

    def scored_dataset(
        self, reader: SampleReader, ids: Sequence[str], pipeline: Pipeline, stage: str, lacking: Sequence[str] = ()
    ) -> MultiTaskDataset:
        """Return samples with references, for scoring as ``stage``; those in ``lacking`` have no prediction to score."""
        names = [name for name, spec in reader.specs.items() if spec.reference]
        absent = {sample_id for name in names for sample_id in reader.lacking(name, ids)} | set(lacking)
        groups = self._score_groups([i for i in ids if i not in absent], stage) | dict.fromkeys(absent, ())
        return MultiTaskDataset(reader, ids, pipeline, seed=self.seed, scale=self.scale, groups=groups)

    def _score_groups(self, ids: Sequence[str], stage: str) -> dict[str, tuple[str, ...]]:
        """Return which of ``SCORE_GROUPS`` each id counts in; see ``Official.score_groups``.

        Other images of a published data set than its test list make a partial score, whatever they are.
        """
        official, test = OFFICIAL.get(self.official or ""), stage == "val"
        groups: dict[str, tuple[str, ...]] = dict.fromkeys(ids, ("",) if official is None else ("partial",))
        if official is not None and test:
            groups = official.score_groups(ids)
        partial = sum("partial" in own for own in groups.values())
        if official is not None and test and partial and any(s.reference for s in self.targets.values()):
            text = "%s: boundary scores over %d of %d images end in _partial; those over the official %d are published"
            log.warning(text, self.root, partial, len(ids), len(official.reference_ids()))
        estimated = set(_evenly(list(ids), self.estimate_images))
        return {key: (*own, SUBSET) if key in estimated else own for key, own in groups.items()}

    def _check_guide(self, ids: Sequence[str]) -> None:
        """Raise a UserError if files are missing of a class map that only training crops are chosen by."""
        for name in self.train_specs.keys() - self.targets.keys():
            reader = self.reader({name: self.train_specs[name]})
            if (missing := reader.missing(name, ids)) and not self.allow_missing:
                raise UserError(
                    f"{self.root}: files are missing ({name}: {len(missing)}, {reader.describe(missing)}), by which training "
                    "crops are chosen; restore them, or choose crops without: data.crop_guide=null"
                )

    def _augmentation(self) -> Pipeline:
        from mtlsi_net.data import augmentation  # imports albumentations: only if something is augmented

        make = getattr(augmentation, self.augmentation)
        pipeline: Pipeline = make(
            self.size, self.train_specs, guide_task(self.train_specs), self.pad_color, self.extra_augmentations
        )
        return pipeline

    def _hold_out(self, ids: list[str]) -> tuple[list[str], list[str]]:
        if self.dev_list is None:
            cut = len(ids) - max(1, round(DEV_SHARE * len(ids)))
            return ids[:cut], ids[cut:]
        held = set(shipped_ids(self.dev_list))
        kept, out = [i for i in ids if i not in held], [i for i in ids if i in held]
        if not out or not kept:
            raise UserError(
                f"{self.root}: data.dev_split=true would leave {len(kept)} training and {len(out)} held-out images; "
                "the shipped list fits the official training split only"
            )
        return kept, out

    def _loader(
        self, dataset: MultiTaskDataset, own: ProcessInfo, *, shuffle: bool, batch_size: int, parts: int = 1
    ) -> ShareLoader:
        workers = min(self.num_workers, available_cores())
        sampler = EpochSampler(
            len(dataset), seed=self.seed, shuffle=shuffle, batch_size=batch_size, rank=own.rank, ranks=own.size
        )
        loader = ShareLoader(
            parts=parts,
            counts_labels=self.counts_labels,
            dataset=dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            multiprocessing_context=worker_context(self.datasets.values()) if workers else None,
            collate_fn=partial(collate, specs=dataset.reader.specs),
            worker_init_fn=prepare_worker,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0 and shuffle,
        )
        self.readings.append((dataset, loader.reading))
        return loader

    @property
    def share(self) -> int:
        """Samples of one optimiser step in this process; a UserError if the processes cannot share it evenly."""
        size = process_info().size
        if self.batch_size % size:
            raise UserError(
                f"data.batch_size={self.batch_size} (of one step, over all processes) cannot be shared by {size} processes; "
                "use a multiple"
            )
        return self.batch_size // size

    @property
    def micro_batches(self) -> int:
        """Parts in which a process takes its share of a step; a UserError if it does not divide into them."""
        largest = self.share if self.micro_batch is None else self.micro_batch
        if self.share > largest and self.share % largest:
            raise UserError(
                f"data.micro_batch={largest} does not divide the {self.share} images that a process has in one step "
                f"(data.batch_size={self.batch_size} in {process_info().size}); use a divisor"
            )
        return max(1, self.share // largest)

    def check_batches(self, images: int) -> None:
        """Raise a UserError unless so many training images fill a batch."""
        if images < self.batch_size:
            raise UserError(
                f"{self.root}: {images} training images cannot fill one batch; set data.batch_size to at most that"
            )

    def train_dataloader(self) -> ShareLoader:
        """Return shuffled, augmented micro-batches."""
        dataset = self.datasets["train"]
        self.check_batches(len(dataset))
        return self._loader(dataset, process_info(), shuffle=True, batch_size=self.share, parts=self.micro_batches)

    def eval_dataloader(self, split: str, shared: bool = True) -> ShareLoader:
        """Return the batches of ``val`` or ``train_scored`` in order: over all processes, each sample exactly once.

        ``shared=False`` gives this process all of them.
        """
        own = process_info() if shared else ProcessInfo()
        return self._loader(self.datasets[split], own, shuffle=False, batch_size=self.eval_batch_size)

    def val_dataloader(self) -> ShareLoader:
        """Return the batches of ``scored_split``."""
        return self.eval_dataloader(self.scored_split)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002 - Lightning's signature
        """Return a loader's batch, now on the device, as values; Lightning calls this before every step."""
        return batch_values(batch, self.targets)

    def to_device(self, batch: Batch, device: torch.device) -> Batch:
        """Return a loader's batch on a device as values, for loops outside a Trainer."""
        return self.on_after_batch_transfer(move_data_to_device(batch, device), 0)


def guide_task(specs: Mapping[str, TargetSpec]) -> str | None:
    """Return the task whose class map crops are chosen by: ``semseg``, or the first with classes; None: take every window."""
    classes = (n for n, spec in specs.items() if spec.kind == "classes" and spec.invalid != "background_only")
    return GUIDE if GUIDE in specs else next(classes, None)


def _evenly(ids: list[str], count: int) -> list[str]:
    """Return ``count`` ids at even distances, all if they are fewer."""
    count = min(len(ids), count)
    return [ids[index * len(ids) // count] for index in range(count)]
