"""Checks that must come before Hydra makes the run folder."""

import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from mtlsi_net.utils import ranks
from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import RunFolder
from mtlsi_net.utils.sweeps import check_launcher


class CheckRunFolder(Callback):
    """Ends with one line and exit code 2 if the run folder cannot be written; Hydra would end with a traceback.

    Processes that torchrun or SLURM started run Hydra each: all use the folder of the first, which alone writes there.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Create the folder that the job is about to use."""
        try:
            if ranks.place().size > 1:
                _use_common_folder(config)
            if ranks.is_first():
                RunFolder(Path(config.hydra.run.dir)).create()
        except UserError as error:
            _leave(error)


def _use_common_folder(config: DictConfig) -> None:
    folder = ranks.agree("run folder", lambda: str(config.hydra.run.dir))
    with read_write(config), read_write(config.hydra):
        config.paths.run_dir = config.hydra.run.dir = folder
        if not ranks.is_first():
            config.hydra.output_subdir = None


class CheckSweep(Callback):
    """Ends with one line and exit code 2 if a sweep's launcher cannot start its jobs.

    Launchers' processes unpickle it with its module, and so know the resolver ``job_folder``.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Check before the first job."""
        try:
            check_launcher(config)
        except UserError as error:
            _leave(error)


def _leave(error: UserError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
