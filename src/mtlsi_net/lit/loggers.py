"""Loggers that need a decision before they start."""

import netrc
import os
from collections.abc import Iterable

from lightning.pytorch.loggers import Logger, WandbLogger

from mtlsi_net.utils.run_folder import KEPT, RunFolder

WANDB_HOST = "api.wandb.ai"


def wandb_logger(project: str, name: str, save_dir: str) -> WandbLogger:
    """Return a W&B logger: online if the user is logged in, offline otherwise; WANDB_MODE overrules both."""
    offline = "WANDB_MODE" not in os.environ and not _logged_in()
    return WandbLogger(project=project, name=name, save_dir=save_dir, offline=offline)


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(WANDB_HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def keep_run_folder(loggers: Iterable[Logger], folder: RunFolder) -> None:
    """Hand the finished run's files to W&B, where it is among the loggers; offline they wait beside the run."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for name in KEPT:
                if (folder.root / name).is_file():
                    logger.experiment.save(str(folder.root / name), base_path=str(folder.root.parent), policy="now")
