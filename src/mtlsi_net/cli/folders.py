"""Folders that are named after the second in which a command starts: each command gets one of its own."""

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from mtlsi_net.core.run_folder import slurm_job

TIME = "${now:"


def claim_run_folder(cfg: DictConfig) -> None:
    """Make the run folder of ``cfg.paths`` if its name is the time; ``_2``, ``_3``, ... follow a name that is taken.

    A folder that cannot be made is left to ``RunFolder.create``, which says so.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    key, text = "paths.run_dir", str(plain["paths"]["run_dir"])
    while TIME not in text and (other := re.fullmatch(r"\$\{(\w+)\}", text)):
        key, text = other[1], str(plain.get(other[1]))
    if TIME not in text:
        return
    first = str(OmegaConf.select(cfg, key))

    def rename(end: str) -> Path:
        OmegaConf.update(cfg, key, first + end)
        return Path(cfg.paths.run_dir)

    _claim(rename)


def claim_sweep_folder(cfg: DictConfig) -> None:
    """Make the folder of a sweep without a name, likewise; its jobs get the name as an override.

    A SLURM job gives the sweep its number, so that the sweep continues when the job is requeued.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    if TIME not in str(plain.get("sweep")):
        return
    first, job = str(cfg.sweep), slurm_job()

    def rename(end: str) -> Path:
        cfg.sweep = first + end
        return Path(cfg.hydra.sweep.dir)

    if job is None:
        _claim(rename)
    else:
        cfg.sweep = f"slurm_{job}"
    with read_write(cfg), read_write(cfg.hydra):
        cfg.hydra.overrides.task.append(f"sweep={cfg.sweep}")


def _claim(rename: Callable[[str], Path]) -> None:
    """Give a folder the first free name, by making it: of several processes, one makes it."""
    taken = None
    for number in count(1):
        folder = rename("" if number == 1 else f"_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder == taken:  # a fixed name
                return
            taken = folder
        except OSError:
            return
        else:
            return
