"""Checks that must come before Hydra makes the run folder."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.run_folder import RunFolder


class CheckRunFolder(Callback):
    """Ends with one line and exit code 2 if the run folder cannot be written; Hydra would end with a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Create the folder that the job is about to use."""
        try:
            RunFolder(Path(config.hydra.run.dir)).create()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
