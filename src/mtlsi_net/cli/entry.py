"""Entry point of all commands: renamed choices, one-line errors."""

import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig

from mtlsi_net.cli.help import HELP, command_parts, help_text
from mtlsi_net.cli.run_settings import with_settings_of_run
from mtlsi_net.cli.words import hydra_words
from mtlsi_net.core import signals
from mtlsi_net.core.errors import INTERRUPTED, UserError, find_user_error
from mtlsi_net.core.machine import keep_freed_memory
from mtlsi_net.core.ranks import defer_secondary_errors, is_broken_connection, is_rank_zero, process_info
from mtlsi_net.core.renamed import CHOICES, OPTIONS, current_metric

CONFIG_DIR = ("--config-dir", "-cd")
TASK_SET_HEADER = "# @package tasks"


def run_command(name: str, function: Callable[[DictConfig], object]) -> None:
    """Call a command's function with the configuration that this process's command line composes.

    ``--help`` is answered from the configuration files: Hydra 1.3's own help has none of their comments, which document
    the settings, and composes everything first: 1.6 instead of 0.3 seconds of processor time.

    Args:
        name: of the command and of its file in ``conf/``.
        function: its UserErrors become one line and exit code 2.
    """
    signals.listen_until_exit(INTERRUPTED if name == "train" else None)
    words = sys.argv[1:]
    config_dirs = [after for word, after in pairwise(words) if word in CONFIG_DIR]
    config_dirs += [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    if any(word in HELP for word in words):
        print(help_text(name, config_dirs, words))
        return
    with user_errors():
        check_config_dirs(config_dirs)
        if name == "train":
            words = with_settings_of_run(words)
        sys.argv[1:] = hydra_words(
            (current_choices(current_option(name, word)) for word in words), command_parts(name)[1]
        )
    keep_freed_memory()
    import hydra  # the help needs none of this
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from mtlsi_net.cli.effect import check_words
    from mtlsi_net.cli.failures import brief_failures, run_sweep_job
    from mtlsi_net.cli.folders import claim_run_folder
    from mtlsi_net.cli.joblib_jobs import joblib_job
    from mtlsi_net.cli.kinds import check_command
    from mtlsi_net.cli.sweeps import is_search

    @wraps(function)  # Hydra names the job, and its log file, after the function's file
    def task(cfg: DictConfig) -> object:
        job = HydraConfig.get()
        folder = Path(job.runtime.output_dir)

        def checked() -> object:
            check_words(name, cfg)
            check_command(name, cfg)  # a single run is checked before its folder is made
            if "sweep" not in cfg:
                claim_run_folder(cfg)
            return function(cfg)

        with joblib_job(), user_errors():
            if job.mode == RunMode.MULTIRUN:
                return run_sweep_job(checked, folder, search=is_search(job))
            with brief_failures(folder):
                return function(cfg)

    with user_errors():  # a signal may come before the task
        hydra.main(config_path="pkg://mtlsi_net.conf", config_name=name, version_base="1.3")(task)()


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a UserError, however deeply wrapped, into one printed line and exit code 2; leave all else alone.

    Of several processes' errors, only the first is printed.
    """
    try:
        yield
    except Exception as error:
        if is_broken_connection(error):
            _leave_by_signal()  # another rank was faster
        defer_secondary_errors(error)
        known = find_user_error(error)
        if known is None:
            raise
        prefix = "" if is_rank_zero() else f"process {process_info().rank}: "
        # a loader process's traceback may stand before the message
        message = str(known).rpartition(f"{type(known).__name__}: ")[2].strip()
        print(f"error: {prefix}{message}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        _leave_interrupted()
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):  # Lightning's way
            _leave_interrupted()
        if isinstance(ended, signals.Interrupted) and not ended.told:
            _leave_by_signal()
        raise


def _leave_by_signal() -> None:
    """Exit as the signal asks that this process was sent; return if there was none."""
    number, listener = signals.first_signal(), signals.active()
    if number is None or listener is None:
        return
    if number == signal.SIGINT:
        _leave_interrupted()
    if is_rank_zero():
        print(f"ended by {number.name}", file=sys.stderr)
    sys.exit(listener.exit_code(number))


def _leave_interrupted() -> NoReturn:
    if is_rank_zero():
        print("interrupted", file=sys.stderr)
    sys.exit(130)


def check_config_dirs(folders: Iterable[str]) -> None:
    """Raise a UserError if a folder of ``--config-dir`` chooses task sets in the way of earlier versions."""
    for folder in map(Path, folders):
        if any(folder.glob("tasks/*.yaml")) and not (folder / "task_set").is_dir():
            raise UserError(
                f"{folder / 'tasks'}: rename this folder to task_set, and start each file in it with '{TASK_SET_HEADER}'"
            )
        for file in sorted(folder.rglob("*.yaml")):
            text = file.read_text(errors="replace")
            if file.parent == folder / "task_set" and file.name[0] != "_" and TASK_SET_HEADER not in text.splitlines():
                raise UserError(f"{file}: start this file with '{TASK_SET_HEADER}'")
            if "override /tasks:" in text:
                raise UserError(f"{file}: replace 'override /tasks:' with 'override /task_set:'")


def current_option(command: str, word: str) -> str:
    """Return ``option=value`` with the names of today of option and monitored metric; a notice says so if one is another."""
    former, equals, value = word.partition("=")
    if former.endswith(".monitor") and current_metric(value) != value:
        print(f"note: {word} is now {former}={current_metric(value)}", file=sys.stderr)
        return f"{former}={current_metric(value)}"
    name = OPTIONS.get(command, {}).get(former)
    if name is None or not equals:
        return word
    print(f"note: {word} is now {name}={value}", file=sys.stderr)
    return f"{name}={value}"


def current_choices(word: str) -> str:
    """Return ``group=choice``, also of several choices or a glob, with today's names; a notice names former ones."""
    group, equals, value = word.partition("=")
    for former, name in CHOICES.get(group.lstrip("+"), {}).items():
        value, count = re.subn(rf"\b{former}\b", name, value)
        if count:
            print(f"note: {group}={former} is now {group}={name}, the same network", file=sys.stderr)
    return f"{group}{equals}{value}"
