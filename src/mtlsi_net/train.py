"""Train a network: ``python -m mtlsi_net.train experiment=rooms_demo``; with ``-m``, one for each choice of a sweep.

``ckpt=last`` resumes an interrupted run.
"""

import math
import shlex

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mtlsi_net.cli.entry import run_command
from mtlsi_net.cli.launch import start
from mtlsi_net.cli.sweeps import is_search
from mtlsi_net.core.errors import FailedTrial, UserError
from mtlsi_net.engine.resume import resumes


def main(cfg: DictConfig) -> float:
    """Train, evaluate and report; the imports wait until the configuration is known to be right."""
    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        cfg.paths.run_dir = job.runtime.output_dir  # every job of a sweep has a folder of its own
        if is_search(job):
            return train_trial(cfg, job_command(job))
        return start(resume_or_train, cfg, job_command(job))
    return start(resume_or_train if resumes(cfg) else train_one, cfg)


def train_trial(cfg: DictConfig, command: str) -> float:
    """Train one trial of a search; return its skill.

    Raises:
        FailedTrial: it ended with an error, or without a skill; the search continues.
    """
    reason = ""
    skill = math.nan
    try:
        skill = start(resume_or_train, cfg, command)
    except UserError as error:
        reason = str(error)
    except SystemExit as ended:
        if ended.code != 2:  # interrupted, or out of time
            raise
        reason = "its processes ended with code 2, see above"
    if math.isnan(skill):
        # outside the handlers: an error with a UserError as its context would end the command
        raise FailedTrial(reason or "it has no skill: a score is not finite")
    return skill


def train_one(cfg: DictConfig) -> float:
    """Train one network; return its skill."""
    from mtlsi_net.engine.train import train

    return train(cfg).skill


def resume_or_train(cfg: DictConfig, command: str | None = None) -> float:
    """Train as far as that is still to be done in ``cfg.paths.run_dir``; return the skill."""
    from mtlsi_net.engine.job import run_job

    return run_job(cfg, command)


def job_command(job: HydraConf) -> str:
    """Return the command that repeats a sweep's job; a launcher's process knows none."""
    added = [part.path for part in job.runtime.config_sources if part.provider == "command-line"]
    folders = [text for path in added for text in ("--config-dir", path)]
    return shlex.join(["python", "-m", "mtlsi_net.train", *folders, *job.overrides.task])


if __name__ == "__main__":
    run_command("train", main)
