"""Comparison of run folders: reads them, groups seeds, and writes tables and a page."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Printed

from mtlsi_net.comparison.bootstrap import Resampled, differences, resample, worst_images
from mtlsi_net.comparison.gains import find_gain
from mtlsi_net.comparison.identity import Group, group_seeds, main_metrics, split_groups
from mtlsi_net.comparison.page import draw_tables, write_page
from mtlsi_net.comparison.published import Published, load_published
from mtlsi_net.comparison.read import Run, SkippedRun, entry, find_folders, read_runs
from mtlsi_net.comparison.tables import Table, gain_notes, our_cells, write_csvs, write_markdown, write_tex
from mtlsi_net.comparison.wandb_runs import fetch_runs
from mtlsi_net.core.errors import UserError, choose, shown
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.core.types import score_name
from mtlsi_net.data.official import OFFICIAL

log = logging.getLogger(__name__)

NAME_LETTERS = 22
"""Longest name of a row in a table of four tasks on 80 columns; where one is longer, names are listed below the table."""

WEIGHTS = {"last": "the last weights", "best": "the best checkpoint", "ema": "averaged weights"}


@dataclass(frozen=True)
class Comparison:
    """The output folder, its tables, and the runs that are not in them."""

    folder: Path
    tables: list[Table]
    skipped: list[SkippedRun]


def compare(cfg: DictConfig) -> Comparison:
    """Compare the runs of ``cfg.runs`` and ``cfg.wandb``; write tables and a page to ``cfg.paths.run_dir``.

    A UserError if nothing can be compared, or, with ``cfg.strict``, something is skipped or its data not identified.
    """
    choose("weights", cfg.weights, WEIGHTS)
    out = Path(cfg.paths.run_dir)
    RunFolder(out).create()
    runs, skipped = _read(cfg, out)
    groups, repeated = group_seeds(runs)
    skipped += repeated
    if not groups:
        reasons = shown((f"{item.name}: {item.reason}" for item in skipped), "; ") or "no run was given"
        raise UserError(f"nothing to compare ({reasons}); give runs=FOLDER, runs=[A,B] or runs='outputs/*/*'")
    tables, unusable = _make_tables(groups, cfg)
    skipped += unusable
    worst = [images for table in tables for images in worst_images(table.groups, table.resampled, cfg.worst)]
    write_page(out / "index.html", tables, worst, skipped, int(cfg.page_mb * 1e6))
    write_markdown(out / "table.md", tables, skipped)
    write_csvs(out, tables)
    write_tex(out / "table.tex", tables)
    draw_tables(out, tables)
    _print(tables, skipped)
    refused = [f"{item.name}: {item.reason}" for item in skipped]
    refused += [f"{group.label}: run.json does not identify its data" for group in groups if not group.known]
    if cfg.strict and refused:
        raise UserError(f"strict=true, but {shown(refused, '; ')}")
    log.info("tables and the page are in %s: open %s", out, out / "index.html")
    return Comparison(out, tables, skipped)


def _read(cfg: DictConfig, out: Path) -> tuple[list[Run], list[SkippedRun]]:
    patterns: Any = cfg.runs if isinstance(cfg.runs, ListConfig) else filter(None, [cfg.runs])
    folders, skipped = find_folders([str(pattern) for pattern in patterns])
    if cfg.wandb is not None:
        fetched, missing = fetch_runs(cfg.wandb, out / "wandb")
        folders, skipped = [*folders, *fetched], [*skipped, *missing]
    runs, unread = read_runs(folders, cfg.weights)
    return runs, [*skipped, *unread]


def _make_tables(groups: Sequence[Group], cfg: DictConfig) -> tuple[list[Table], list[SkippedRun]]:
    """Return the tables, and the runs and groups for which no interval could be computed."""
    gains = {group.label: find_gain(group, groups) for group in groups}
    resampled: dict[str, Resampled] = {}
    skipped: list[SkippedRun] = []
    if cfg.bootstrap > 0 and cfg.weights == "last":
        resampled, skipped = resample(groups, gains, cfg.bootstrap, cfg.seed)
    results = load_published() if cfg.published else []
    tables = []
    for number, (members, differs) in enumerate(split_groups(groups), start=1):
        first = members[0].first
        tested = first.stage == "val" and entry(first.config, "data", "test_split", default=True)  # older: not recorded
        chosen = " chosen on the test set" if cfg.weights == "best" and tested else ""
        names = {str(group.first.config.get("name")) for group in members}
        named = f"; every run is named {names.pop()}" if len(names) == 1 else ""
        notes = [
            f"scores of {WEIGHTS[cfg.weights]}{chosen}; runs that differ only in the seed, paths, logging or hardware "
            f"share a row{named}"
        ]
        if not members[0].known:
            notes.append("run.json does not identify the data (no digests); these rows may come from different data")
        published, why = _published(members, results, resampled)
        notes += why
        pairs = differences(members, gains, resampled)
        tables.append(Table(number, members, differs, gains, resampled, pairs, published, notes))
    return tables, skipped


def _published(
    groups: Sequence[Group], results: Sequence[Published], resampled: Mapping[str, Resampled]
) -> tuple[list[Published], list[str]]:
    """Return the published results for rows that were scored on the whole published test set, and notes on what is missing."""
    run, scale = groups[0].first, groups[0].identity["scale", ""]
    name = entry(run.record, "data", "name")
    fitting = [result for result in results if result.data == name and result.protocol in ("lineage", "mtan")]
    if not fitting:
        return [], []
    official = set(OFFICIAL[str(name)].ids("val"))
    ids = next((set(resampled[group.label].ids) for group in groups if group.label in resampled), None)
    if (source := entry(run.record, "data", "prepared")) is not None:
        reason = f"the data set was prepared from {source}, with labels other than those of published numbers"
    elif run.stage != "val" or scale != "1.0":
        reason = f"these are {run.stage} images at scale {scale}"
    elif any(metric.endswith(score_name("", "partial")) for metric in main_metrics(groups)):
        reason = "boundaries were scored on only some of the published images"
    elif ids is None:
        return fitting, ["without per_image.npz it is unknown whether all published images were scored"]
    elif ids != official:
        reason = f"only {len(official & ids)} of the {len(official)} published images were scored"
    else:
        return fitting, []
    return [], [f"published results are not shown: {reason}"]


def _print(tables: Sequence[Table], skipped: Sequence[SkippedRun]) -> None:
    for table in tables:
        cells = our_cells(table, sizes=False)  # a terminal is narrow
        labels = list(cells[""])
        listed = any(len(label) > NAME_LETTERS for label in labels)
        if listed:
            cells[""] = [f"{row}" for row in range(1, len(labels) + 1)]
        printed = Printed(*map(escape, cells.columns), title=escape(table.title))
        for row in cells.itertuples(index=False):
            printed.add_row(*map(escape, row))  # [a,b] is no markup
        Console().print(printed)
        for row, label in enumerate(labels if listed else (), start=1):
            log.info("%3d  %s", row, label)
        for note in (*table.notes[1:], *gain_notes(table)):
            log.info("%s", note)
    for item in skipped:
        log.warning("skipped: %s: %s", item.name, item.reason)
