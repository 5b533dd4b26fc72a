"""From run folders to tables and a page."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.table import Table as Printed

from mtlsi_net.comparison.cells import gain_notes, table_cells, title
from mtlsi_net.comparison.figure import draw_tables
from mtlsi_net.comparison.gains import Gain, find_gain
from mtlsi_net.comparison.groups import IGNORED, Group, group_seeds
from mtlsi_net.comparison.intervals import Bootstrap, Difference
from mtlsi_net.comparison.page import write_page
from mtlsi_net.comparison.published import Published, load_published
from mtlsi_net.comparison.runs import Left, find_folders, read_runs
from mtlsi_net.comparison.tables import Row, Table, scored_partially, split_tables
from mtlsi_net.comparison.wandb_runs import fetch_runs
from mtlsi_net.comparison.worst import Worst, find_worst
from mtlsi_net.comparison.writers import write_csv, write_each_run, write_markdown, write_pairs, write_tex
from mtlsi_net.data.official import OFFICIAL
from mtlsi_net.utils.errors import UserError, choose, shown
from mtlsi_net.utils.run_folder import RunFolder

log = logging.getLogger(__name__)

WEIGHTS = {"last": "the last weights", "best": "the best checkpoint", "ema": "averaged weights"}


@dataclass(frozen=True)
class Comparison:
    """What was written, and from what."""

    folder: Path
    tables: list[Table]
    pairs: dict[int, list[Difference]]
    left: list[Left]


def compare(cfg: DictConfig) -> Comparison:
    """Compare the runs of ``cfg.runs`` and ``cfg.wandb``; leave tables and a page in ``cfg.paths.run_dir``.

    Raises:
        UserError: nothing is left to compare, or, with ``cfg.strict``, something is left out or not identified.
    """
    choose("weights", cfg.weights, WEIGHTS)
    out = Path(cfg.paths.run_dir)
    RunFolder(out).create()
    folders, left = _find(cfg, out)
    runs, unread = read_runs(folders, cfg.weights)
    groups, repeated = group_seeds(runs)
    left += [*unread, *repeated]
    if not groups:
        told = shown((f"{item.what}: {item.why}" for item in left), "; ")
        raise UserError(
            f"nothing to compare ({told or 'no run was given'}); give runs=FOLDER, runs=[A,B] or runs='outputs/*/*'"
        )
    tables, bootstrap = split_tables(groups), Bootstrap(cfg.bootstrap if cfg.weights == "last" else 0, cfg.seed)
    gains = _measure(groups, bootstrap)
    left += bootstrap.left
    pairs: dict[int, list[Difference]] = {}
    worst: list[Worst] = []
    published = load_published() if cfg.published else []
    for index, table in enumerate(tables):
        table.rows = [Row(group, gains[group.label], bootstrap.intervals(group)) for group in table.groups]
        table.notes += _notes(table, cfg.weights)
        _add_published(table, published, bootstrap)
        pairs[index] = bootstrap.differences(table.groups, gains)
        worst += find_worst(bootstrap, table.groups, cfg.worst)
    write_page(out / "index.html", tables, pairs, worst, left, int(cfg.page_mb * 1e6))
    write_markdown(out / "table.md", tables, pairs, left)
    write_csv(out / "table.csv", tables)
    write_each_run(out / "runs.csv", tables)
    write_pairs(out / "pairs.csv", pairs)
    write_tex(out / "table.tex", tables)
    draw_tables(out, tables)
    _print(tables, left)
    if cfg.strict:
        _check_strictly(groups, left)
    log.info("tables and the page are in %s: open %s", out, out / "index.html")
    return Comparison(out, tables, pairs, left)


def _check_strictly(groups: Sequence[Group], left: Sequence[Left]) -> None:
    """Check that every run was taken in, of identified data.

    Raises:
        UserError: names what was not.
    """
    bad = [f"{item.what}: {item.why}" for item in left]
    bad += [f"{group.label}: run.json does not identify its data" for group in groups if not group.identity.known]
    if bad:
        raise UserError(f"strict=true, but {shown(bad, '; ')}")


def _find(cfg: DictConfig, out: Path) -> tuple[list[Path], list[Left]]:
    given: Any = cfg.runs
    patterns = [str(pattern) for pattern in (given if isinstance(given, ListConfig) else [given] if given else [])]
    folders, left = find_folders(patterns)
    if cfg.wandb is not None:
        fetched, missing = fetch_runs(cfg.wandb, out / "wandb")
        folders, left = [*folders, *fetched], [*left, *missing]
    return folders, left


def _measure(groups: Sequence[Group], bootstrap: Bootstrap) -> dict[str, Gain]:
    """Return the gain of every group, by label; bring the bootstrap up to all that can be said."""
    gains = {group.label: find_gain(group, groups) for group in groups}
    if bootstrap.count > 0:
        for group in groups:
            bootstrap.add(group)
        for group in groups:
            bootstrap.add_gain(group, gains[group.label])
    return gains


def _notes(table: Table, weights: str) -> list[str]:
    chosen_on = " chosen on the test set" if weights == "best" and table.groups[0].first.stage == "val" else ""
    notes = [f"scores of {WEIGHTS[weights]}{chosen_on}; rows are grouped over {', '.join(IGNORED)}"]
    if not table.identities[0].known:
        notes.append("run.json does not identify the data (no digests): whether these rows saw the same is not known")
    return notes


def _add_published(table: Table, published: Sequence[Published], bootstrap: Bootstrap) -> None:
    """Put published results beside rows that were scored on the whole published test set, or note why not."""
    data = table.groups[0].first.record.get("data")
    name = data.get("name") if isinstance(data, Mapping) else None
    results = [result for result in published if result.data == name and result.protocol == "lineage"]
    if not results:
        return
    why = _unlike_published(table, str(name), bootstrap)
    if why:
        table.notes.append(f"published results are left out: {why}")
        return
    table.published = results
    if not any(map(bootstrap.ids, table.groups)):
        table.notes.append("without per_image.npz it is not known whether all of the published images were scored")


def _unlike_published(table: Table, name: str, bootstrap: Bootstrap) -> str:
    common = table.identities[0].common
    if common["scored images"] != "val" or common["scale"] != "1.0":
        return f"these are {common['scored images']} images at scale {common['scale']}"
    if scored_partially(table):
        return "boundaries were scored on a part of the published images"
    official = set(OFFICIAL[name].ids("val"))
    scored = next((ids for group in table.groups if (ids := bootstrap.ids(group))), None)
    if scored is not None and set(scored) != official:
        return f"{len(official & set(scored))} of the {len(official)} published images were scored"
    return ""


def _print(tables: Sequence[Table], left: Sequence[Left]) -> None:
    for index, table in enumerate(tables):
        head, *rows = [cells[:2] + cells[5:] for cells in table_cells(table)]  # without sizes: a terminal is narrow
        printed = Printed(*head, title=title(tables, index))
        for row in rows:
            printed.add_row(*row)
        Console().print(printed)
        for note in (*table.notes[1:], *gain_notes(table.rows)):
            log.info("%s", note)
    for item in left:
        log.warning("left out: %s: %s", item.what, item.why)
