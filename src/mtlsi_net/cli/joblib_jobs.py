"""Jobs of a sweep in joblib's processes: how they start processes of their own, save after a signal, and end."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import FrameType

from mtlsi_net.core import signals
from mtlsi_net.core.errors import INTERRUPTED

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two checks of whether the sweep's process still exists."""

WAIT = """
import os, sys
for job in map(int, sys.argv[2:]):
    try:
        os.waitpid(job, 0)
    except ChildProcessError:
        pass
sys.exit(int(sys.argv[1]))
"""
"""Program that waits for its child processes, and ends with a given code."""


def wait_for_jobs_after_signals() -> None:
    """Let signals to a sweep's process reach its jobs, for which it then waits; joblib would kill them while they save."""
    listener = signals.active()
    if listener is not None:
        for number in signals.to_handle():
            signal.signal(number, partial(_wait_for_jobs, listener, signal.getsignal(number)))


def _wait_for_jobs(listener: signals.Listener, earlier: object, number: int, frame: FrameType | None) -> None:
    jobs = [str(job.pid) for job in multiprocessing.active_children() if _is_joblib(job)]
    if not jobs and callable(earlier):  # they run in this process, one after the other
        earlier(number, frame)
        return
    for other in signals.to_handle():
        signal.signal(other, signal.SIG_IGN)  # also in the next program
    if number == signal.SIGHUP:
        signals.leave_terminal()
    log.warning("%s: waiting for the jobs to save", signal.Signals(number).name)
    for job in jobs:
        os.kill(int(job), number)
    sys.stdout.flush()
    # joblib's threads end with its program; so they kill no job when the first one has ended
    os.execv(sys.executable, [sys.executable, "-I", "-c", WAIT, str(listener.exit_code(number)), *jobs])


@contextmanager
def joblib_job() -> Iterator[None]:
    """Run a job, which may be one in joblib's process; that process ends with a job that a signal has ended.

    If the sweep's process is killed, the job is sent SIGTERM.
    """
    if not _is_joblib(multiprocessing.current_process()):
        yield
        return
    multiprocessing.set_start_method(None, force=True)  # joblib's own works for none but its own classes
    parent = _follow_parent()
    with signals.listening(INTERRUPTED) as listener:
        try:
            yield
        finally:
            if listener.came or os.getppid() != parent:  # another job may wait in the queue
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(INTERRUPTED)


@cache
def _follow_parent() -> int:
    """Pass on the end of this process's parent, once in the process; return its number."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        if signals.first_signal() is None:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    return parent


def _is_joblib(process: object) -> bool:
    return type(process).__name__.startswith("Loky")
