"""A run that may be half finished: what is done is recognised, what was interrupted goes on."""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from mtlsi_net.lit.checkpoints import damage
from mtlsi_net.training import train
from mtlsi_net.utils import ranks
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.resuming import described, differences, has_checkpoint
from mtlsi_net.utils.run_folder import RunFolder

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, command: str | None = None) -> float:
    """Return the gain of the run in ``cfg.paths.run_dir``, trained as far as that is still to be done.

    ``metrics.json``, which is written last, marks a finished run; otherwise training goes on from ``last.ckpt``, or from
    the one before if that is damaged, or from the very file that ``cfg.ckpt`` names.

    Args:
        cfg: of the job.
        command: that repeats this job alone, for its record.

    Raises:
        UserError: the folder holds a run of another configuration, or no checkpoint in it is whole.
    """
    folder = RunFolder(Path(cfg.paths.run_dir))
    if folder.metrics.is_file() or has_checkpoint(folder):
        _check_same(cfg, folder)
    if folder.metrics.is_file():
        gain = json.loads(folder.metrics.read_text())["gain"]
        log.info("%s is finished and stays as it is, gain %s", folder.root, gain)
        return float("nan") if gain is None else float(gain)
    chosen = None if cfg.get("ckpt") is None else Path(cfg.ckpt)
    paths = [chosen] if chosen is not None and chosen.is_file() else [folder.last, folder.previous]
    resume = ranks.agree("checkpoint", lambda: newest_whole(paths))
    if resume is not None:
        log.info("%s was interrupted; going on from its %s", folder.root, resume.name)
    return train(cfg, command=command, resume=resume).gain


def newest_whole(paths: list[Path]) -> Path | None:
    """Return the first checkpoint that is whole, saying aloud which are not; None if there is none at all.

    Raises:
        UserError: all that are there are damaged.
    """
    there = [path for path in paths if path.is_file()]
    for path in there:
        found = damage(path)
        if found is None:
            return path
        log.warning("%s is damaged (%s) and left out", path, found)
    if there:
        raise UserError(f"no checkpoint in {there[0].parent} is whole; delete that run folder to start anew")
    return None


def _check_same(cfg: DictConfig, folder: RunFolder) -> None:
    different = differences(cfg, folder)
    if different:
        raise UserError(
            f"{folder.root} holds a run of another configuration ({described(different)}): give this sweep a name of its "
            "own (sweep=...), or delete that folder; a single run goes on with the settings it had"
        )
