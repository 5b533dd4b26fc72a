"""Loggers that need a decision before they start."""

import netrc
import os

from lightning.pytorch.loggers import WandbLogger

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
