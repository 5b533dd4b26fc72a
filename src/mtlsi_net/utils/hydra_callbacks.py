"""Checks that must come before Hydra makes the run folder."""

import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.resuming import choose_folder
from mtlsi_net.utils.run_folder import RunFolder
from mtlsi_net.utils.sweeps import check_launcher


class ChooseRunFolder(Callback):
    """Puts the command into the folder of the run it goes on with, before Hydra makes another."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Set ``paths.run_dir``."""
        try:
            folder = choose_folder(config)
        except UserError as error:
            _leave(error)
        if folder is None:
            return
        given = [text for text in config.hydra.overrides.task if text.lstrip("+").startswith("paths.run_dir=")]
        if given and Path(config.paths.run_dir).absolute() != folder.absolute():
            _leave(UserError(f"ckpt={config.ckpt} goes on in its own folder {folder}; leave out {given[-1]}"))
        config.paths.run_dir = str(folder)


class CheckRunFolder(Callback):
    """Ends with one line and exit code 2 if the run folder cannot be written; Hydra would end with a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Create the folder that the job is about to use."""
        try:
            RunFolder(Path(config.hydra.run.dir)).create()
        except UserError as error:
            _leave(error)


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
