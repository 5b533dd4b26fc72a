"""The verification of one data set, from configuration to report and exit code."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mtlsi_net import assemble
from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.data.official import OFFICIAL, Official, Size, identify
from mtlsi_net.data.sample_reader import SampleReader
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.pictures import Picture, draw_grid, label_pictures
from mtlsi_net.record import describe_run, digest_cache
from mtlsi_net.tasks.base import Task
from mtlsi_net.utils.config_checks import check_complete
from mtlsi_net.utils.errors import UserError, shown
from mtlsi_net.utils.io import write_json
from mtlsi_net.verification import findings as checks
from mtlsi_net.verification.digests import SPLITS, keep_digests
from mtlsi_net.verification.findings import Finding, Level
from mtlsi_net.verification.inspection import ImageFacts, LabelFacts, inspect_all
from mtlsi_net.verification.manifest import compare, manifest_text, read_manifest, sha256_of, text_sha256

log = logging.getLogger(__name__)

VERDICTS = {
    Level.NOTE: "fit for comparison with published numbers",
    Level.DIFFERS: "usable, but not comparable with published numbers",
    Level.BROKEN: "broken",
}
LINES_SHOWN = 20


@dataclass(frozen=True)
class VerifyResult:
    """The verdict: its level is the exit code; findings worst first; where report, manifest and pictures lie."""

    level: Level
    findings: list[Finding]
    folder: Path


@dataclass(frozen=True)
class _Data:
    """What is verified: the reader of the tasks that have labels, and the split lists."""

    reader: SampleReader
    ids: Mapping[str, list[str]]
    official: Official | None

    @property
    def all_ids(self) -> list[str]:
        """Every id once."""
        return list(dict.fromkeys(sample_id for split in SPLITS for sample_id in self.ids[split]))


def verify(cfg: DictConfig) -> VerifyResult:
    """Read every file of ``cfg.data``; write report, manifest and contact sheet to ``cfg.paths.run_dir``.

    Raises:
        UserError: there is nothing to verify: no folder, no split lists, no images, or no labels of any task.
    """
    check_complete(cfg)
    started = time.time()
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = None if cfg.manifest is None else read_manifest(Path(cfg.manifest))
    tasks = assemble.build_tasks(cfg)
    module: MultiTaskDataModule = instantiate(cfg.data, _convert_="all")(
        targets={name: task.target for name, task in tasks.items()},
        allow_missing=False,
        cache_dir=None,
        decoded_dir=None,
    )
    data, found = _open(module)
    images = list(
        track(
            inspect_all(data.reader, data.all_ids, cfg.workers),
            f"reading {module.root}",
            total=len(data.all_ids),
            transient=True,
            disable=not cfg.progress,
        )
    )
    labels = _totals(images, data.reader.specs)
    found += _findings(data, images, labels, cfg.image_size)

    digests = _digests(data, images)
    (folder / "manifest.sha256").write_text(manifest_text(digests))
    keep_digests(module.root, digests, digest_cache(cfg), started)
    if earlier is not None:
        found += _manifest_findings(str(cfg.manifest), earlier, digests)
    _write_sheet(folder / "samples.png", data, images, tasks, cfg)

    found.sort(key=lambda finding: -finding.level)
    result = VerifyResult(max((finding.level for finding in found), default=Level.NOTE), found, folder)
    report = _report(data, images, labels, manifest_text(digests), result)
    write_json(folder / "verify.json", report | {"run": describe_run(cfg.seed, {})})
    _print(data, images, labels, tasks, result, str(report["copy"]))
    return result


def _open(module: MultiTaskDataModule) -> tuple[_Data, list[Finding]]:
    """Read the lists; leave out tasks that have no labels at all, which is a finding."""
    whole = module.make_reader(module.targets)
    ids = {split: whole.ids(split) for split in SPLITS}
    official = OFFICIAL.get(module.official or "")
    everything = _Data(whole, ids, official).all_ids
    if len(absent := whole.missing(IMAGE, everything)) == len(everything):
        copy = f"; this copy: {identify(official, whole.root, [])}" if official else ""
        raise UserError(f"{whole.root}: no image is there, e.g. {whole.describe(absent[:1])}{copy}; {whole.how_to_get}")
    present, found = {}, []
    for name, spec in whole.specs.items():
        absent = whole.missing(name, everything)
        if len({path.stem for path in absent}) == len(everything):
            text = f"{name}: no labels ({whole.describe(absent[:1])}, ...); train without it: ~tasks.{name}"
            found.append(Finding(Level.DIFFERS, text))
        else:
            present[name] = spec
    if not present:
        raise UserError(f"{whole.root}: no task has labels; {whole.how_to_get}")
    return _Data(module.make_reader(present), ids, official), found


def _totals(images: Sequence[ImageFacts], names: Mapping[str, Any]) -> dict[str, LabelFacts]:
    totals = {name: LabelFacts() for name in names}
    for image in images:
        for name, facts in image.labels.items():
            totals[name].add(facts)
    return totals


def _sizes(images: Sequence[ImageFacts]) -> Counter[Size]:
    return Counter(image.size for image in images if image.size is not None)


def _findings(
    data: _Data, images: Sequence[ImageFacts], labels: Mapping[str, LabelFacts], size: Sequence[int] | None
) -> list[Finding]:
    found = checks.check_errors(images) + checks.check_overlap(data.ids)
    if data.official is None:
        return [
            *found,
            Finding(Level.DIFFERS, "a data set without published numbers: there is nothing to compare with"),
        ]
    found += checks.check_ids(data.ids, data.official)
    expected = (int(size[0]), int(size[1])) if size else data.official.size
    found += checks.check_sizes(_sizes(images), expected, data.official.longest_side)
    return found + checks.check_labels(labels, data.reader.specs, data.official.farthest)


def _digests(data: _Data, images: Sequence[ImageFacts]) -> dict[str, str]:
    lists = {
        path.relative_to(data.reader.root).as_posix(): sha256_of(path) for path in map(data.reader.list_path, SPLITS)
    }
    return lists | {path: digest for image in images for path, digest in image.digests.items()}


def _manifest_findings(name: str, earlier: Mapping[str, str], now: Mapping[str, str]) -> list[Finding]:
    differences = compare(earlier, now)
    if not differences:
        return [Finding(Level.NOTE, f"equal to {name}")]
    words = ", ".join(f"{len(paths)} {what} ({shown(paths)})" for what, paths in asdict(differences).items() if paths)
    return [Finding(Level.DIFFERS, f"files differ from {name}: {words}")]


def _write_sheet(
    path: Path, data: _Data, images: Sequence[ImageFacts], tasks: Mapping[str, Task], cfg: DictConfig
) -> None:
    """Draw random samples that can be read, with all their labels."""
    sound = [image.sample_id for image in images if not image.errors]
    chosen = np.random.default_rng(cfg.seed).permutation(sound)[: cfg.samples].tolist()
    own = {name: tasks[name] for name in data.reader.specs}
    rows: list[list[Picture]] = [label_pictures(data.reader.read(sample_id), own) for sample_id in sorted(chosen)]
    if rows:
        draw_grid(rows, [IMAGE, *own], path, names=sorted(chosen))


def _report(
    data: _Data, images: Sequence[ImageFacts], labels: Mapping[str, LabelFacts], manifest: str, result: VerifyResult
) -> dict[str, Any]:
    sizes = _sizes(images)
    copy = identify(data.official, data.reader.root, sizes) if data.official else "not a published data set"
    return {
        "root": str(data.reader.root.resolve()),
        "verdict": VERDICTS[result.level],
        "exit_code": int(result.level),
        "copy": copy,
        "manifest_sha256": text_sha256(manifest),
        "findings": [{"level": finding.level.name.lower(), "text": finding.text} for finding in result.findings],
        "images": {split: len(data.ids[split]) for split in SPLITS},
        "sizes": {f"{height}x{width}": count for (height, width), count in sorted(sizes.items())},
        "image_types": dict(Counter(image.stored for image in images if image.stored)),
        "labels": {name: vars(facts) for name, facts in labels.items()},
    }


def _print(
    data: _Data,
    images: Sequence[ImageFacts],
    labels: Mapping[str, LabelFacts],
    tasks: Mapping[str, Task],
    result: VerifyResult,
    copy: str,
) -> None:
    console = Console()
    counts = ", ".join(f"{len(data.ids[split])} {split}" for split in SPLITS)
    sizes = shown(f"{count} of {height}x{width}" for (height, width), count in _sizes(images).most_common())
    console.print(f"{data.reader.root}: {counts} images ({sizes})\ncopy: {copy}", highlight=False, soft_wrap=True)
    console.print(_label_table(labels))
    for name, facts in labels.items():
        task = tasks[name]
        if task.class_names and facts.histogram:
            console.print(f"{name}: {_class_shares(facts, task.class_names)}", highlight=False, soft_wrap=True)
    for finding in result.findings[:LINES_SHOWN]:
        console.print(f"{finding.level.name.lower()}: {finding.text}", highlight=False, markup=False, soft_wrap=True)
    if len(result.findings) > LINES_SHOWN:
        console.print(f"... and {len(result.findings) - LINES_SHOWN} more, in {result.folder / 'verify.json'}")
    verdict = f"verdict: {VERDICTS[result.level]} (everything is in {result.folder})"
    console.print(verdict, highlight=False, markup=False, soft_wrap=True)


def _label_table(labels: Mapping[str, LabelFacts]) -> Table:
    table = Table()
    for heading in ("labels", "files", "stored as", "lowest", "highest", "invalid pixels"):
        table.add_column(heading, justify="left" if heading in ("labels", "stored as") else "right")
    for name, facts in labels.items():
        share = facts.invalid / facts.pixels if facts.pixels else 0.0
        cells = (str(facts.images), ", ".join(facts.stored), f"{facts.low:.4g}", f"{facts.high:.4g}", f"{share:.2%}")
        table.add_row(name, *cells)
    return table


def _class_shares(facts: LabelFacts, names: Sequence[str]) -> str:
    total = facts.histogram.total()
    return ", ".join(f"{names[index]} {count / total:.2%}" for index, count in facts.histogram.most_common())
