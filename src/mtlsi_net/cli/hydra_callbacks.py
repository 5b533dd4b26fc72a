"""Hydra callbacks that check and choose the run folder before Hydra creates it."""

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from mtlsi_net.cli.effect import check_words
from mtlsi_net.cli.entry import user_errors
from mtlsi_net.cli.failures import failures
from mtlsi_net.cli.folders import claim_run_folder, claim_sweep_folder
from mtlsi_net.cli.joblib_jobs import wait_for_jobs_after_signals
from mtlsi_net.cli.kinds import check_command
from mtlsi_net.cli.sweeps import check_launcher, is_search
from mtlsi_net.core import ranks
from mtlsi_net.core.commands import command_line
from mtlsi_net.core.config import refuse_choice_on_test
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.resume import choose_folder, resumes

log = logging.getLogger(__name__)


class CheckValues(Callback):
    """Ends with one line and exit code 2 if a setting has no effect or a value of the wrong kind, before anything is written."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Check what the command line composes."""
        HydraConfig.instance().set_config(config)  # for interpolations of ${hydra:...}
        with user_errors():
            check_command(str(config.hydra.job.config_name), config)
            check_words(str(config.hydra.job.config_name), config)


class ChooseRunFolder(Callback):
    """Puts a command that resumes a run into the folder of that run; a new run into no other's folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Set ``paths.run_dir`` in the first process; the others use its folder."""
        if not ranks.is_rank_zero():
            return
        with user_errors():
            if not resumes(config):
                RunFolder(Path(config.paths.run_dir)).refuse_another_run()
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
            if ranks.is_rank_zero():
                claim_run_folder(config)
            if ranks.process_info().size > 1:
                folder = ranks.broadcast_from_rank_zero("run folder", lambda: str(config.hydra.run.dir))
                with read_write(config), read_write(config.hydra):
                    config.paths.run_dir = config.hydra.run.dir = folder
                    if not ranks.is_rank_zero():
                        config.hydra.output_subdir = None
            if "${" in str(config.hydra.run.dir):
                raise UserError(
                    f"run folder {config.hydra.run.dir}: Hydra cannot write to a folder with '${{' in its name"
                )
            if ranks.is_rank_zero():
                RunFolder(Path(config.hydra.run.dir)).create()


class CheckSweep(Callback):
    """Ends with one line if a sweep cannot start its jobs or is to choose on test images.

    Its module brings the resolver ``job_folder``.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Check before the first job, and give the sweep a folder of its own if it has no name."""
        with user_errors():
            check_launcher(config)
            if is_search(config.hydra):
                refuse_choice_on_test(config, "hparams_search")
            claim_sweep_folder(config)
        if config.hydra.launcher._target_.endswith("JoblibLauncher"):
            wait_for_jobs_after_signals()


class ListFailedJobs(Callback):
    """Says at the end of a sweep which jobs failed, where and why, and ends it with exit code 1.

    A search with failed trials has succeeded, unless all of them failed.
    """

    def __init__(self) -> None:
        self.before: dict[Path, tuple[int, str]] = {}
        self.trials = self.failed = 0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """Remember what failed in an earlier call."""
        self.before = failures(Path(config.hydra.sweep.dir))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """End a search whose trials all failed: its sweeper would look for the best one."""
        if not is_search(config.hydra):
            return
        self.trials += 1
        self.failed += job_return.status == JobStatus.FAILED
        if self.trials == self.failed == config.hydra.sweeper.n_trials:
            self._list(config)
            print("error: every trial of the search failed, see above", file=sys.stderr)
            sys.exit(2)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Hydra's signature
        """List the failed jobs; without one, name the command that compares the runs."""
        count = self._list(config)
        if count and not is_search(config.hydra):
            print(
                f"error: {count} of the sweep's jobs failed, see above; the same command tries them again",
                file=sys.stderr,
            )
            sys.exit(1)
        if "sweep" in config:
            print("compare the runs:", command_line("compare", f"runs={config.hydra.sweep.dir}"))  # not as Hydra logs

    def _list(self, config: DictConfig) -> int:
        """Log the jobs that failed since the start; return how many they are."""
        found = failures(Path(config.hydra.sweep.dir))
        failed = {
            folder: reason for folder, (when, reason) in found.items() if self.before.get(folder) != (when, reason)
        }
        if failed:
            log.warning("%d of the %s failed:", len(failed), "trials" if is_search(config.hydra) else "jobs")
        for folder, reason in failed.items():
            log.warning("  %s: %s", folder, reason)
        return len(failed)
