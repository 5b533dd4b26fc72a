"""Runner of a job that may have been started before: a finished run is kept, an interrupted one is resumed."""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from mtlsi_net.core import ranks
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.resume import differences, refusal
from mtlsi_net.engine.train import train
from mtlsi_net.lit.checkpoint_io import damage

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, command: str | None = None) -> float:
    """Return the gain of the run in ``cfg.paths.run_dir``, which is trained as far as it is unfinished.

    ``metrics.json``, which is written last, marks a finished run; another is resumed from ``last.ckpt``, from
    ``previous.ckpt`` if that is damaged, or from the very file that ``cfg.ckpt`` names. ``command`` repeats this job of a
    sweep alone, for its record; None: it is a single run.

    Raises:
        UserError: all checkpoints are damaged, or a setting differs with which it would be another run.
    """
    folder = RunFolder(Path(cfg.paths.run_dir))
    finished = folder.metrics.is_file()
    if (finished or folder.has_checkpoint()) and (different := differences(cfg, folder)):
        raise UserError(refusal(different, folder, sweep=command is not None))
    if finished:
        gain = json.loads(folder.metrics.read_text())["gain"]
        log.info("%s is finished and stays as it is, gain %s", folder.root, gain)
        return float("nan") if gain is None else float(gain)
    chosen = None if cfg.get("ckpt") is None else Path(cfg.ckpt)
    paths = [chosen] if chosen is not None and chosen.is_file() else [folder.last, folder.previous]
    resume = ranks.broadcast_from_rank_zero("checkpoint", lambda: newest_whole(paths))
    if resume is not None:
        log.info("%s was interrupted; resuming from its %s", folder.root, resume.name)
    return train(cfg, command=command, resume=resume).gain


def newest_whole(paths: list[Path]) -> Path | None:
    """Return the first undamaged checkpoint, warning of each before; None if none exists; a UserError if all are damaged."""
    there = [path for path in paths if path.is_file()]
    for path in there:
        problem = damage(path)
        if problem is None:
            return path
        log.warning("%s is damaged (%s) and skipped", path, problem)
    if there:
        raise UserError(f"every checkpoint in {there[0].parent} is damaged; delete that run folder to start anew")
    return None
