"""Runner of a job that may have been started before: a finished run is kept, an interrupted one resumed, another extended."""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from mtlsi_net.core import ranks
from mtlsi_net.core.commands import PHOTOS, command_line
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.renamed import current_metric
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.resume import differences, extended_run, is_path, named_run, refusal
from mtlsi_net.engine.train import train
from mtlsi_net.lit.checkpoint_io import damage

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, command: str | None = None) -> float:
    """Return the skill of the run in ``cfg.paths.run_dir``, which is trained as far as it is unfinished.

    ``metrics.json``, which is written last, marks a finished run; another is resumed from ``last.ckpt``, from
    ``previous.ckpt`` if that is damaged, or from the very file that ``cfg.ckpt`` names. A new run extends the one that
    ``cfg.ckpt`` names. ``command`` repeats this job of a sweep alone, for its record; None: it is a single run.

    Raises:
        UserError: all checkpoints are damaged, or a setting differs with which it would be another run.
    """
    folder = RunFolder(Path(cfg.paths.run_dir))
    finished = folder.metrics.is_file()
    if (finished or folder.has_checkpoint()) and (different := differences(cfg, folder)):
        raise UserError(refusal(different, folder, sweep=command is not None))
    if finished:
        scores = json.loads(folder.metrics.read_text())
        skill = {current_metric(name): value for name, value in scores.items()}["skill"]
        log.info("%s is finished and stays as it is, skill %s", folder.root, skill)
        log.info("predict with it: %s", command_line("predict", f"ckpt={folder.root}", PHOTOS))
        return float("nan") if skill is None else float(skill)
    parent = None if folder.has_checkpoint() else _parent(cfg, folder)
    source = folder if parent is None else parent
    resume = ranks.broadcast_from_rank_zero("checkpoint", lambda: newest_whole(_candidates(cfg, source)))
    if parent is None and resume is not None:
        log.info("%s was interrupted; resuming from its %s", folder.root, resume.name)
    return train(cfg, command=command, resume=resume, parent=parent).skill


def _parent(cfg: DictConfig, folder: RunFolder) -> RunFolder | None:
    """Return the run that a new one extends: another than that of ``folder``; a UserError if nothing extends it."""
    if not is_path(cfg.get("ckpt")) or _holds(folder, Path(cfg.ckpt)):
        return None
    parent = extended_run(cfg)
    if parent is None:
        raise UserError(
            f"ckpt={cfg.ckpt} was trained with these settings: a job that extends it sets another trainer.max_steps"
        )
    return parent


def _holds(folder: RunFolder, path: Path) -> bool:
    """Return whether a path of ``ckpt`` is a run folder or inside it."""
    return path.resolve().is_relative_to(folder.root.resolve())


def _candidates(cfg: DictConfig, source: RunFolder) -> list[Path]:
    """Return the checkpoints to train on from, the preferred one first."""
    if is_path(cfg.get("ckpt")) and _holds(source, chosen := Path(cfg.ckpt)):
        named_run(chosen)  # refuses a file that does not exist
        if chosen.is_file():
            return [chosen]
    return [source.last, source.previous]


def newest_whole(paths: list[Path]) -> Path | None:
    """Return the first undamaged checkpoint, warning of each before; None if none exists; a UserError if all are damaged."""
    there = [path for path in paths if path.is_file()]
    for path in there:
        problem = damage(path)
        if problem is None:
            return path
        log.warning("%s is damaged (%s) and skipped", path, problem)
    if there:
        raise UserError(
            f"every checkpoint in {there[0].parent} is damaged; start a new run without ckpt, in another folder, or a "
            "sweep by another name (sweep=NAME)"
        )
    return None
