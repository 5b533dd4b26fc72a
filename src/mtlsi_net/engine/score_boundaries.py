"""Scoring folders of boundary maps against ground truths: from configuration to scores, tables and a plot on disk."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mtlsi_net.core.config import check_complete
from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.io import write_csv, write_json
from mtlsi_net.core.parallel import map_in_processes
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.core.types import SCORE_GROUPS, score_name
from mtlsi_net.data.official import OFFICIAL, shipped_ids
from mtlsi_net.engine import boundary_files
from mtlsi_net.engine.record import describe_run
from mtlsi_net.metrics.boundary.presets import Preset, make_preset
from mtlsi_net.metrics.boundary.scores import Counts, Tally, f_measure, precision_recall

log = logging.getLogger(__name__)

DATA_SETS = {"nyud": "nyud", "pascal": "pascal", "pascal_mti": "pascal"}
"""Preset -> published data set whose test list makes the score."""
CHANGES = ("max_dist", "nms", "thin", "compare", "thresholds", "truth")
COUNTS = ("cntR", "sumR", "cntP", "sumP")
CURVE = "precision_recall.png"
ISO_F = np.arange(0.1, 1, 0.1)


@dataclass(frozen=True)
class BoundaryResult:
    """The main score, under its name (``odsF`` or ``odsF_partial``), all scores, and where everything lies."""

    name: str
    value: float
    scores: dict[str, float]
    folder: Path


def score_folders(cfg: DictConfig) -> BoundaryResult:
    """Score ``cfg.pred`` against ``cfg.gt``; write counts, scores and plot to ``cfg.out``.

    Raises:
        UserError: folders, ids or pictures that do not fit together.
    """
    check_complete(cfg)
    RunFolder(Path(cfg.out)).refuse_trained("out")
    preset = make_preset(cfg.preset, {key: OmegaConf.to_object(cfg)[key] for key in CHANGES})  # type: ignore[index, call-overload] # a mapping
    predictions = boundary_files.predictions_in(Path(cfg.pred))
    if cfg.ids is not None:
        boundary_files.check_ids(predictions, Path(cfg.ids))
    truths, others = boundary_files.truths_in(Path(cfg.gt), predictions)
    groups = boundary_files.choose_ids(predictions, truths, [] if cfg.ids else others, DATA_SETS.get(cfg.preset))
    boundary_files.check_kind([truths[sample_id] for sample_id in groups], preset)
    found = _count({sample_id: (predictions[sample_id], truths[sample_id]) for sample_id in groups}, preset, cfg)
    tally = Tally(preset)
    for sample_id, counts in found.items():
        tally.add(counts, groups[sample_id])
    scores = tally.scores()
    group = next(group for group in SCORE_GROUPS if score_name("odsF", group) in scores)
    index, name = SCORE_GROUPS.index(group), score_name("odsF", group)
    if group == "partial":
        published = shipped_ids(OFFICIAL[DATA_SETS[cfg.preset]].reference_list)
        log.warning(
            "%d images count, of the %d that are published; without %s: the score is called odsF_partial",
            tally.images[index],
            len(published),
            shown(sorted(set(published) - groups.keys())) or "none",
        )
    result = BoundaryResult(name, scores[name], scores, Path(cfg.out))
    _write(result, group, tally.total[index], found, preset, cfg)
    _print(result, preset, cfg)
    if (text := boundary_files.check_values(predictions[sample_id] for sample_id in groups)) is not None:
        log.warning("%s: %s", cfg.pred, text)
    return result


def _count(jobs: Mapping[str, boundary_files.Job], preset: Preset, cfg: DictConfig) -> dict[str, Counts]:
    """Return every image's (thresholds, 4) counts; a UserError names the images whose files cannot be used."""
    work = map_in_processes(partial(boundary_files.count_image, preset=preset), list(jobs.values()), cfg.workers)
    counted = list(track(work, "boundaries", total=len(jobs), transient=True, disable=not cfg.progress))
    wrong = [outcome for outcome in counted if isinstance(outcome, str)]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(jobs)} images cannot be scored: {shown(wrong, '; ')}")
    return {key: counts for key, counts in zip(jobs, counted, strict=True) if not isinstance(counts, str)}


def _write(
    result: BoundaryResult, group: str, total: Counts, found: Mapping[str, Counts], preset: Preset, cfg: DictConfig
) -> None:
    folder = result.folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = ((t, *row) for t, row in zip(preset.thresholds, total.tolist(), strict=True))
    write_csv(folder / "counts.csv", ("threshold", *COUNTS), rows)
    images = (_best_row(sample_id, counts, preset) for sample_id, counts in found.items())
    write_csv(folder / "per_image.csv", ("id", "threshold", "F", "precision", "recall", *COUNTS), images)
    _draw_curve(folder / CURVE, total, preset, result, group, f"{cfg.pred} ({cfg.preset})")
    summary = {
        **result.scores,
        "preset": cfg.preset,
        "rules": {**asdict(preset), "thresholds": len(preset.thresholds)},
        "pred": str(cfg.pred),
        "gt": str(cfg.gt),
        "run": describe_run(None, {}),
    }
    write_json(folder / "summary.json", summary)


def _best_row(sample_id: str, counts: Counts, preset: Preset) -> tuple[object, ...]:
    """Return one image's F, precision, recall and counts at its own best threshold."""
    precision, recall = precision_recall(counts, preset.interpolate)
    f = f_measure(precision, recall)
    at = int(np.argmax(f))
    scores = (f"{value:.6f}" for value in (f[at], precision[at], recall[at]))
    return sample_id, preset.thresholds[at], *scores, *counts[at].tolist()


def _draw_curve(path: Path, counts: Counts, preset: Preset, result: BoundaryResult, group: str, title: str) -> None:
    """Draw precision over recall of (thresholds, 4) counts on lines of equal F, the point of the main score marked."""
    precision, recall = precision_recall(counts, preset.interpolate)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for f in ISO_F:
        r = np.linspace(f / (2 - f), 1, 100)  # precision reaches 1 at the left end
        axes.plot(r, f * r / (2 * r - f), color="tab:green", linewidth=0.5, alpha=0.6)
        axes.annotate(f"F={f:.1f}", (1, f / (2 - f)), (2, 0), textcoords="offset points", fontsize=6, color="tab:green")
    drawn = counts[:, 3] > 0  # without a predicted pixel precision is a convention
    axes.plot(recall[drawn], precision[drawn], color="tab:red")
    at, y, x = (result.scores[score_name(key, group)] for key in ("threshold", "precision", "recall"))
    axes.plot([x], [y], "o", color="tab:red", label=f"{result.name} {result.value:.4f} at {at:.3g}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=title, aspect="equal")
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120)


def _print(result: BoundaryResult, preset: Preset, cfg: DictConfig) -> None:
    table = Table(title=f"{cfg.pred}: preset {cfg.preset}, maxDist {preset.max_dist:g}")
    table.add_column("", no_wrap=True)
    for heading in ("images", "F", "at", "P", "R", "oisF", "AP"):
        table.add_column(heading, justify="right")
    for group in SCORE_GROUPS:
        name = score_name("odsF", group)
        if name in result.scores:
            keys = ("odsF", "threshold", "precision", "recall", "oisF", "AP")
            values = (f"{result.scores[score_name(key, group)]:.4f}" for key in keys)
            table.add_row(name, f"{result.scores[score_name('images', group)]:.0f}", *values)
    console = Console(markup=False, emoji=False)  # paths may hold brackets
    console.print(table)
    text = f"everything is in {result.folder}: open {result.folder / CURVE}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
