"""One job of a sweep: a finished one is recognised, an interrupted one continued."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtlsi_net.training import train
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import RunFolder
from mtlsi_net.utils.sweeps import decides

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig, command: str | None = None) -> float:
    """Return the gain of the run in ``cfg.paths.run_dir``, trained as far as that is still to be done.

    ``metrics.json``, which is written last, marks a finished run; otherwise ``last.ckpt`` is where training goes on.

    Args:
        cfg: of the job.
        command: that repeats this job alone, for its record.

    Raises:
        UserError: the folder holds a run of another configuration.
    """
    folder = RunFolder(Path(cfg.paths.run_dir))
    last = folder.checkpoints / "last.ckpt"
    if folder.metrics.is_file() or last.is_file():
        _check_same(cfg, folder)
    if folder.metrics.is_file():
        gain = json.loads(folder.metrics.read_text())["gain"]
        log.info("%s is finished and stays as it is, gain %s", folder.root, gain)
        return float("nan") if gain is None else float(gain)
    if last.is_file():
        log.info("%s was interrupted; going on from its last.ckpt", folder.root)
        return train(cfg, command=command, resume=last).gain
    return train(cfg, command=command).gain


def _check_same(cfg: DictConfig, folder: RunFolder) -> None:
    saved = OmegaConf.load(folder.config) if folder.config.is_file() else OmegaConf.create()
    found = dict(_leaves(OmegaConf.to_container(saved)))
    wanted = dict(_leaves(OmegaConf.to_container(cfg, resolve=True)))
    different = [key for key in sorted(found.keys() | wanted.keys()) if found.get(key) != wanted.get(key)]
    if different:
        changes = ", ".join(f"{key} was {found.get(key)}, is {wanted.get(key)}" for key in different[:3])
        more = ", ..." if len(different) > 3 else ""
        raise UserError(
            f"{folder.root} holds a run of another configuration ({changes}{more}): give this sweep a name of its own "
            "(sweep=...), or delete that folder"
        )


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any part of a configuration
    """Yield the settings that decide what a run finds, ``a.b.c`` -> value; lists count as one."""
    if path and not decides(path):
        return
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
