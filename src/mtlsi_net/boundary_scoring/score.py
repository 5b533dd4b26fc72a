"""Folders of boundary maps and ground truths, from configuration to scores on disk."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mtlsi_net.boundary_scoring import files, report
from mtlsi_net.boundary_scoring.images import count_image
from mtlsi_net.data.official import OFFICIAL, shipped_ids
from mtlsi_net.metrics.boundary.presets import Preset, make_preset
from mtlsi_net.metrics.boundary.scores import Counts
from mtlsi_net.metrics.boundary.tally import Tally
from mtlsi_net.record import describe_run
from mtlsi_net.specs import SCORE_GROUPS, score_name
from mtlsi_net.utils.config_checks import check_complete
from mtlsi_net.utils.errors import UserError, shown
from mtlsi_net.utils.io import write_json
from mtlsi_net.utils.processes import map_in_processes

log = logging.getLogger(__name__)

DATA_SETS = {"nyud": "nyud", "pascal": "pascal", "pascal_mti": "pascal"}
"""Preset -> published data set whose test list makes the score."""
CHANGES = ("max_dist", "nms", "thin", "compare", "thresholds", "truth")


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
        UserError: rules that do not exist, files missing, in excess or unusable.
    """
    check_complete(cfg)
    preset = make_preset(cfg.preset, {key: OmegaConf.to_object(cfg)[key] for key in CHANGES})  # type: ignore[index, call-overload] # a mapping
    predictions = files.predictions_in(Path(cfg.pred))
    if cfg.ids is not None:
        predictions = files.restrict(predictions, files.read_ids(Path(cfg.ids)))
    truths, others = files.truths_in(Path(cfg.gt), predictions)
    groups = files.choose_ids(predictions, truths, [] if cfg.ids else others, DATA_SETS.get(cfg.preset))

    files.check_kind([truths[sample_id] for sample_id in groups], preset)
    jobs = [(predictions[sample_id], truths[sample_id]) for sample_id in groups]
    counted = track(
        map_in_processes(partial(count_image, preset=preset), jobs, cfg.workers),
        "boundaries",
        total=len(jobs),
        transient=True,
        disable=not cfg.progress,
    )
    found = _sound(dict(zip(groups, counted, strict=True)))
    tally = Tally(preset)
    for sample_id, counts in found.items():
        tally.add(counts, groups[sample_id])
    scores = tally.scores()
    group = next(group for group in SCORE_GROUPS if score_name("odsF", group) in scores)
    result = BoundaryResult(score_name("odsF", group), scores[score_name("odsF", group)], scores, Path(cfg.out))
    if group == "partial":
        published = shipped_ids(OFFICIAL[DATA_SETS[cfg.preset]].reference_list)
        log.warning(
            "%d images count, of the %d that are published; without %s: the score is called odsF_partial",
            tally.images[SCORE_GROUPS.index(group)],
            len(published),
            shown(sorted(set(published) - groups.keys())) or "none",
        )
    _write(result, group, {"counts": tally.total[SCORE_GROUPS.index(group)], "images": found}, preset, cfg)
    _print(result, preset, cfg)
    return result


def _sound(found: Mapping[str, Counts | str]) -> dict[str, Counts]:
    wrong = [outcome for outcome in found.values() if isinstance(outcome, str)]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(found)} images cannot be scored: {shown(wrong, '; ')}")
    return {sample_id: outcome for sample_id, outcome in found.items() if not isinstance(outcome, str)}


def _write(result: BoundaryResult, group: str, found: dict[str, Any], preset: Preset, cfg: DictConfig) -> None:
    folder = result.folder
    folder.mkdir(parents=True, exist_ok=True)
    report.write_counts(folder / "counts.csv", found["counts"], preset)
    report.write_images(folder / "per_image.csv", found["images"], preset)
    best = {key: result.scores[score_name(key, group)] for key in ("odsF", "threshold", "precision", "recall")}
    report.draw_curve(
        folder / "precision_recall.png", found["counts"], preset, result.name, best, f"{cfg.pred} ({cfg.preset})"
    )
    summary = {
        **result.scores,
        "preset": cfg.preset,
        "rules": {**asdict(preset), "thresholds": len(preset.thresholds)},
        "pred": str(cfg.pred),
        "gt": str(cfg.gt),
        "run": describe_run(0, {}),
    }
    write_json(folder / "summary.json", summary)


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
    console = Console()
    console.print(table)
    console.print(f"everything is in {result.folder}", highlight=False, markup=False, soft_wrap=True)
