"""Failures of commands: one line for the user, the traceback in a file of the run folder, a sweep that continues."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mtlsi_net.core import ranks
from mtlsi_net.core.errors import FailedTrial, UserError, find_user_error

log = logging.getLogger(__name__)

ERROR = "error.txt"
"""File of a run folder whose command failed: the reason in its first line, then the traceback."""
FAILED = (1, 2)
"""Exit codes of a job's ranks that failed; with others they were interrupted."""


@contextmanager
def brief_failures(folder: Path) -> Iterator[None]:
    """Turn an unexpected error into one line and exit code 1, with the traceback in ``error.txt``; UserErrors pass.

    HYDRA_FULL_ERROR=1 raises it. Of several ranks, the launcher reports errors.
    """
    try:
        _forget(folder)
        yield
    except Exception as error:
        if find_user_error(error) is not None or ranks.process_info().size > 1 or _is_debugged():
            raise
        reason = _write(folder, error)
        print(f"error: {reason}; the traceback is in {folder / ERROR} (HYDRA_FULL_ERROR=1 prints it)", file=sys.stderr)
        sys.exit(1)


def run_sweep_job(function: Callable[[], object], folder: Path, *, search: bool = False) -> object:
    """Return a sweep's job's result; None if it failed, so that the next job starts. ``error.txt`` then says why.

    Raises:
        FailedTrial: a trial of a search failed, which its sweeper has to know.
        SystemExit: the job was interrupted.
    """
    reason = ""
    try:
        _forget(folder)
        return function()
    except FailedTrial as error:
        _write(folder, error)
        raise
    except SystemExit as ended:
        if ended.code not in FAILED:
            raise
        reason = _write(
            folder, UserError(f"its processes ended with code {ended.code}, see {folder.name}'s output above")
        )
    except Exception as error:
        if ranks.process_info().size > 1:  # this process's end tells the launcher, which ends the other ranks
            raise
        reason = _write(folder, error)
    if search:
        raise FailedTrial(reason)
    log.error("failed: %s", reason)
    return None


def failures(sweep: Path) -> dict[Path, tuple[int, str]]:
    """Return the folder of each failed job of a sweep -> when it failed, in nanoseconds, and its reason."""
    files = sorted(sweep.glob(f"*/{ERROR}"))
    return {path.parent: (path.stat().st_mtime_ns, path.read_text().partition("\n")[0]) for path in files}


def _forget(folder: Path) -> None:
    """Remove what an earlier attempt left."""
    if ranks.is_rank_zero():
        (folder / ERROR).unlink(missing_ok=True)


def _write(folder: Path, error: BaseException) -> str:
    """Write ``error.txt`` if the folder still takes it; return the reason in one line."""
    known = find_user_error(error) or (error if isinstance(error, FailedTrial) else None)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" in {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    words = " ".join(str(known or error).split())
    reason = words if known else f"unexpected {type(error).__name__}{where}: {words}"
    try:
        (folder / ERROR).write_text(f"{reason}\n\n{''.join(traceback.format_exception(error))}")
    except OSError:
        log.exception("%s cannot be written", folder / ERROR)
    return reason


def _is_debugged() -> bool:
    return os.environ.get("HYDRA_FULL_ERROR") == "1"
