"""Verification of one data set: report, manifest, contact sheet and exit code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from mtlsi_net.core.commands import command_line, data_words
from mtlsi_net.core.config import check_complete
from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.io import write_json
from mtlsi_net.core.parallel import map_in_processes
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.digests import (
    SPLITS,
    data_files,
    find_digests,
    listed_ids,
    manifest_text,
    read_manifest,
    text_sha256,
)
from mtlsi_net.data.label_checks import Finding, LabelFacts, Level, check_plausible, check_training_labels
from mtlsi_net.data.official import OFFICIAL, Official, Size, identify
from mtlsi_net.data.prepared import read_prepared
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.data_tools import findings as checks
from mtlsi_net.data_tools.inspect import ImageFacts, inspect_sample
from mtlsi_net.engine.build import build_tasks
from mtlsi_net.engine.pictures import write_labels
from mtlsi_net.engine.record import describe_run, digest_cache
from mtlsi_net.tasks.base import Task

VERDICTS = {
    Level.NOTE: "fit for comparison with published numbers",
    Level.DIFFERS: "usable, but not comparable with published numbers",
    Level.BROKEN: "broken",
}
SAMPLES = "samples.png"
RECIPES = {
    "data=nyud": "experiment=nyud_vitl",
    "data=pascal": "experiment=pascal_vitl",
    "data=nyuv2_mtan": "experiment=nyuv2_mtan",
    "data=cityscapes_mtan": "experiment=cityscapes_mtan",
    "data=folder": "experiment=folder_small",
}
"""Words of this command -> those with which one trains on the data."""
LINES_SHOWN = 20
CLASSES_SHOWN = 60
DARK = 32
"""Largest value of images that are nearly black, as 12-bit values in 16-bit files are."""


@dataclass(frozen=True)
class VerifyResult:
    """The verdict: its level is the exit code; findings worst first."""

    level: Level
    findings: list[Finding]


def verify(cfg: DictConfig) -> VerifyResult:
    """Read every file of ``cfg.data``; write report, manifest and contact sheet to ``cfg.paths.run_dir``.

    A UserError if there is nothing to verify: a missing folder, missing split lists, no images, or no labels of any task.
    """
    check_complete(cfg)
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = None if cfg.manifest is None else read_manifest(Path(cfg.manifest))
    tasks = build_tasks(cfg)
    targets = {name: task.target for name, task in tasks.items()}
    build = instantiate(cfg.data, _convert_="all")
    module: MultiTaskDataModule = build(targets=targets, allow_missing=False, cache_dir=None, decoded_dir=None)
    official = OFFICIAL.get(module.official or "")
    reader, findings = _open(module, official)
    ids = listed_ids(reader)
    facts = map_in_processes(partial(inspect_sample, reader), ids, cfg.workers)
    images = list(track(facts, "reading images", len(ids), transient=True, disable=not cfg.progress))
    files = {name: path for part in data_files(reader).values() for name, path in part.items()}
    digests = find_digests(reader.root, files, digest_cache(cfg), reread=True, progress=cfg.progress)
    manifest = manifest_text(digests)
    (folder / "manifest.sha256").write_text(manifest)
    _write_sheet(folder / SAMPLES, reader, images, tasks, cfg)

    labels = _sum(reader, images)
    sizes = Counter(image.size for image in images if image.size is not None)
    findings += _findings(reader, images, labels, sizes, official, cfg.image_size)
    findings += _label_findings(reader, images, labels, {} if official else tasks)
    findings += _training_findings(module, reader)
    findings += checks.check_prepared(read_prepared(reader.root))
    if earlier is not None:
        findings.append(checks.compare_manifests(str(cfg.manifest), earlier, digests))
    findings.sort(key=lambda finding: -finding.level)
    result = VerifyResult(findings[0].level if findings else Level.NOTE, findings)
    report = {
        "root": str(reader.root.resolve()),
        "verdict": VERDICTS[result.level],
        "exit_code": int(result.level),
        "copy": _copy(official, reader.root, sizes),
        "manifest_sha256": text_sha256(manifest),
        "findings": [{"level": finding.level.name.lower(), "text": finding.text} for finding in result.findings],
        "images": {split: len(reader.ids(split)) for split in SPLITS},
        "sizes": {f"{height}x{width}": count for (height, width), count in sorted(sizes.items())},
        "image_types": dict(Counter(image.stored for image in images if image.stored)),
        "labels": {name: _report(label) for name, label in labels.items()},
    }
    write_json(folder / "verify.json", report | {"run": describe_run(cfg.seed, {})})
    _print(report, labels, tasks, folder)
    return result


def _copy(official: Official | None, root: Path, sizes: Mapping[Size, int]) -> str:
    """Return which copy of a data set is at ``root``."""
    if (marker := read_prepared(root)) is not None:
        return f"prepared from {marker['file']['name']} by mtlsi_net.prepare"
    return identify(official, root, sizes) if official else "not a published data set"


def _open(module: MultiTaskDataModule, official: Official | None) -> tuple[SampleReader, list[Finding]]:
    """Return the reader of the tasks that have labels, and a finding for each task without labels."""
    whole = module.make_reader(module.targets)
    ids = listed_ids(whole)
    if len(absent := whole.missing(IMAGE, ids)) == len(ids):
        copy = f"; this copy: {identify(official, whole.root, [])}" if official else ""
        raise UserError(
            f"{whole.root}: the images are missing, e.g. {whole.describe(absent[:1])}{copy}; {whole.how_to_get}"
        )
    present, findings = {}, []
    for name, spec in whole.specs.items():
        if len(whole.lacking(name, ids)) == len(ids):
            example = whole.describe(whole.missing(name, ids)[:1])
            text = f"{name}: no labels ({example}, ...); train without it: ~tasks.{name}"
            findings.append(Finding(Level.DIFFERS, text))
        else:
            present[name] = spec
    if not present:
        raise UserError(f"{whole.root}: no task has labels; {whole.how_to_get}")
    return module.make_reader(present), findings


def _findings(
    reader: SampleReader,
    images: Sequence[ImageFacts],
    labels: Mapping[str, LabelFacts],
    sizes: Mapping[Size, int],
    official: Official | None,
    size: Sequence[int] | None,
) -> list[Finding]:
    """Return errors in the files, and differences from the official copy, whose images have ``size``."""
    ids = {split: reader.ids(split) for split in SPLITS}
    errors = dict.fromkeys(error for image in images for error in image.errors)  # one file may serve two tasks
    findings = [*(Finding(Level.BROKEN, error) for error in errors), *checks.check_overlap(ids)]
    if official is None:
        text = "no published numbers exist for this data set, so it cannot be compared"
        return [*findings, Finding(Level.DIFFERS, text)]
    expected = (int(size[0]), int(size[1])) if size else official.size
    findings += checks.check_ids(ids, official)
    findings += checks.check_sizes(sizes, expected, official.longest_side)
    return findings + list(checks.check_labels(labels, reader.specs, official))


def _sum(reader: SampleReader, images: Sequence[ImageFacts]) -> dict[str, LabelFacts]:
    """Return the facts of each task's labels over all images."""
    labels = {name: LabelFacts() for name in reader.specs}
    for name, label in ((name, label) for image in images for name, label in image.labels.items()):
        labels[name].add(label)
    return labels


def _report(facts: LabelFacts) -> dict[str, Any]:
    return {key: value for key, value in vars(facts).items() if key != "medians"} | {"median": facts.median}


def _label_findings(
    reader: SampleReader, images: Sequence[ImageFacts], labels: Mapping[str, LabelFacts], tasks: Mapping[str, Task]
) -> list[Finding]:
    """Return what training and scoring check too; ``tasks`` are those whose class lists need not fit the files."""
    train = set(reader.ids("train"))
    rest = _sum(reader, [image for image in images if image.sample_id not in train])
    findings = list(check_training_labels(_sum(reader, [image for image in images if image.sample_id in train])))
    empty = [name for name, facts in rest.items() if facts.images and facts.invalid == facts.pixels]
    findings += [Finding(Level.DIFFERS, f"{name}: no valid pixel in the labels of val") for name in empty]
    names = {name: task.class_names for name, task in tasks.items()}
    findings += check_plausible(labels, reader.specs, names, {name: reader.encoding(name) for name in labels})
    if turned := [image.sample_id for image in images if image.turned]:
        text = f"{len(turned)} images have an EXIF orientation and are turned upright ({shown(turned)}); labels must fit that"
        findings.append(Finding(Level.NOTE, text))
    if any(image.brightest for image in images) and max(image.brightest for image in images) < DARK:
        text = f"no pixel of any image is above {max(image.brightest for image in images)} of 255; check how they are stored"
        findings.append(Finding(Level.DIFFERS, text))
    return findings


def _training_findings(module: MultiTaskDataModule, reader: SampleReader) -> list[Finding]:
    """Return why training would refuse to start with the settings given."""
    try:
        module.check_batches(len(module.split_ids(reader)[0][: module.max_train_images]))
    except UserError as error:
        return [Finding(Level.DIFFERS, f"training refuses: {error}")]
    return []


def _write_sheet(
    path: Path, reader: SampleReader, images: Sequence[ImageFacts], tasks: Mapping[str, Task], cfg: DictConfig
) -> None:
    """Draw random readable samples with all their labels."""
    sound = [image.sample_id for image in images if not image.errors]
    chosen = sorted(np.random.default_rng(cfg.seed).permutation(sound)[: cfg.samples].tolist())
    present = {name: tasks[name] for name in reader.specs}
    if chosen:
        write_labels({sample_id: reader.read(sample_id) for sample_id in chosen}, present, path)


def _print(
    report: Mapping[str, Any], labels: Mapping[str, LabelFacts], tasks: Mapping[str, Task], folder: Path
) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    counts = ", ".join(f"{count} {split}" for split, count in report["images"].items())
    sizes = shown(f"{count} of {size}" for size, count in Counter(report["sizes"]).most_common())
    console.print(f"{report['root']}: {counts} images ({sizes})\ncopy: {report['copy']}")
    right = (Column(heading, justify="right") for heading in ("lowest value", "highest value", "unlabelled pixels"))
    table = Table(
        "labels",
        Column("files", justify="right"),
        "files hold",
        *right,
        title="Labels as read: class numbers from 0, metres, components, 0 and 1",
    )
    for name, facts in labels.items():
        values = f"{facts.low:.4g}", f"{facts.high:.4g}", f"{facts.invalid_share:.2%}"
        table.add_row(name, str(facts.images), ", ".join(facts.stored), *values)
    console.print(table)
    for name, facts in labels.items():
        if (names := tasks[name].class_names) and (total := facts.histogram.total()):
            shares = [
                f"{names[index]} {count / total:.2%}" for index, count in facts.histogram.most_common(CLASSES_SHOWN)
            ]
            more = len(facts.histogram) - len(shares)
            console.print(f"{name}: {', '.join(shares)}{f' and {more} more' if more else ''}")
    findings = report["findings"]
    for finding in findings[:LINES_SHOWN]:
        console.print(f"{finding['level']}: {finding['text']}")
    if len(findings) > LINES_SHOWN:
        console.print(f"... and {len(findings) - LINES_SHOWN} more, in {folder / 'verify.json'}")
    code = report["exit_code"]
    console.print(f"verdict, exit code {code}: {report['verdict']} (report, manifest and pictures are in {folder})")
    unlabelled = [f"~tasks.{name}" for name in tasks if name not in labels]
    console.print(_next_step(Level(code), folder, unlabelled))


def _next_step(level: Level, folder: Path, unlabelled: Sequence[str]) -> str:
    """Return what to do after the verdict, with this command's words about the data, and those that leave tasks out."""
    if level == Level.BROKEN:
        return "next: correct what is listed as broken, then run the same command again"
    words = data_words()
    if not any(word.startswith("data=") for word in words):
        words = ["data=nyud", *words]  # this command's default
    look = f"open {folder / SAMPLES}, then " if (folder / SAMPLES).is_file() else ""
    words = [RECIPES.get(word, word) for word in words]
    return f"next: {look}train: {command_line('train', *words, *unlabelled)}"
