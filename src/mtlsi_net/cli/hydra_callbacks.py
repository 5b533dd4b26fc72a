"""Hydra callbacks that check and choose the run folder before Hydra creates it."""

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from mtlsi_net.cli.entry import user_errors
from mtlsi_net.cli.sweeps import check_launcher, is_search
from mtlsi_net.core import ranks, signals
from mtlsi_net.core.errors import UserError, find_user_error
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.resume import choose_folder

log = logging.getLogger(__name__)


class ChooseRunFolder(Callback):
    """Puts a command that resumes a run into the folder of that run."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Set ``paths.run_dir`` in the first process; the others use its folder."""
        if not ranks.is_rank_zero():
            return
        with user_errors():
            if (folder := choose_folder(config)) is None:
                return
            given = [text for text in config.hydra.overrides.task if text.lstrip("+").startswith("paths.run_dir=")]
            if given and Path(config.paths.run_dir).absolute() != folder.absolute():
                raise UserError(f"ckpt={config.ckpt} resumes in its own folder {folder}; leave out {given[-1]}")
            config.paths.run_dir = str(folder)


class CheckRunFolder(Callback):
    """Ends with one line and exit code 2 if the run folder cannot be written; Hydra would end with a traceback.

    Processes that torchrun or SLURM started run Hydra each: all use the folder of the first, which alone writes there.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Create the folder that the job is about to use."""
        with user_errors():
            if ranks.process_info().size > 1:
                folder = ranks.broadcast_from_rank_zero("run folder", lambda: str(config.hydra.run.dir))
                with read_write(config), read_write(config.hydra):
                    config.paths.run_dir = config.hydra.run.dir = folder
                    if not ranks.is_rank_zero():
                        config.hydra.output_subdir = None
            if ranks.is_rank_zero():
                RunFolder(Path(config.hydra.run.dir)).create()


class CheckSweep(Callback):
    """Ends with one line if a sweep's launcher cannot start its jobs; its module brings the resolver ``job_folder``."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Check before the first job."""
        with user_errors():
            check_launcher(config)
        listener = signals.active()
        if listener is not None and config.hydra.launcher._target_.endswith("JoblibLauncher"):
            listener.restore()  # joblib would kill the jobs while they save; so they outlive this process


class ListFailedTrials(Callback):
    """Says at the end of a search which trials failed, and why; ends it with one line if all did."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.trials = 0

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Remember a trial that failed."""
        if not is_search(config.hydra):
            return
        self.trials += 1
        if job_return.status == JobStatus.FAILED:
            error = job_return._return_value
            reason = str(find_user_error(error) or f"{type(error).__name__}: {error}").splitlines()[0]
            self.failed.append(f"{' '.join(job_return.overrides or [])}: {reason}")
        if self.trials == len(self.failed) == config.hydra.sweeper.n_trials:  # the sweeper knows no best one
            self._list()
            print("error: every trial of the search failed, see above", file=sys.stderr)
            sys.exit(2)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """List the failed trials."""
        self._list()

    def _list(self) -> None:
        for number, line in enumerate(self.failed):
            if number == 0:
                log.warning("%d of %d trials failed:", len(self.failed), self.trials)
            log.warning("  %s", line)
