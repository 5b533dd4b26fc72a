"""Signals that end a command, sent to one of its processes or to all: its process group, its terminal, its SLURM step.

The main process handles a signal. Its workers (``from_parent_only``) end with it, or when it says so.
"""

import logging
import multiprocessing
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from mtlsi_net.core.ranks import process_info

log = logging.getLogger(__name__)

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

AGAIN = 1.0
"""Seconds within which a second signal of one kind is the same one, sent to the process and to its group."""


def to_handle() -> list[signal.Signals]:
    """Return the ending signals, without a hangup that ``nohup`` has this process ignore."""
    ignores = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in ENDING if number != signal.SIGHUP or not ignores]


class Interrupted(SystemExit):
    """Raised where a signal or a time limit ends a command; ``told``: what is kept has been said."""

    told = False


class Listener:
    """Handler of the ending signals: it ends the command at once or, while ``deferred``, only remembers the first one.

    Args:
        code: exit code after a signal; None: 128 and the signal's number, which Ctrl-C always has.
    """

    def __init__(self, code: int | None = None) -> None:
        self.code, self.deferred = code, False
        self.signal: signal.Signals | None = None  # the first, until it is acted on
        self.came: dict[int, float] = {}
        self.others: dict[int, Any] = {}  # handlers of before

    def install(self) -> None:
        """Replace the handlers; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            self.others = {number: signal.signal(number, self._on_signal) for number in to_handle()}

    def restore(self) -> None:
        """Restore the handlers that ``install`` replaced."""
        for number, handler in self.others.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.others.clear()

    def exit_code(self, number: int) -> int:
        """Return the exit code after a signal."""
        return 128 + number if number == signal.SIGINT or self.code is None else self.code

    def handler(self, number: int) -> Callable[[int, FrameType | None], object] | None:
        """Return the handler that a signal had before, if that was somebody's."""
        other = self.others.get(number)
        return other if callable(other) and other is not signal.default_int_handler else None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        first = not self.came
        again = number in self.came and now - self.came[number] >= AGAIN
        self.came.setdefault(number, now)
        if number == signal.SIGHUP:
            leave_terminal()
        # whoever started several ranks ends them after a second Ctrl-C
        insists = again and number == signal.SIGINT and process_info().size == 1
        if self.deferred and not insists:
            if self.signal is None:
                self.signal = signal.Signals(number)
                if number == signal.SIGINT and process_info().size == 1:
                    log.info("saving after this step; Ctrl-C again ends at once")
        elif first or again:
            self.signal = signal.Signals(number)
            self.leave(frame)

    def leave(self, frame: FrameType | None = None) -> None:
        """End the command; returns if there was no signal, or if an earlier handler of it (submitit's) does."""
        number = self.signal
        if number is None:
            return
        other = self.handler(number)
        if other is not None:
            self.signal = None
            self.came.clear()
            other(number, frame)
            return
        raise Interrupted(self.exit_code(number))


_active: Listener | None = None


def active() -> Listener | None:
    """Return the listener of this process."""
    return _active


def first_signal() -> signal.Signals | None:
    """Return the first signal that this process was sent, None if none was."""
    return None if _active is None else next((signal.Signals(number) for number in _active.came), None)


def listen_until_exit(code: int | None = None) -> None:
    """Listen until the process ends: a signal's second copy may arrive while it does."""
    global _active
    if _active is None:
        _active = Listener(code)
        _active.install()


@contextmanager
def listening(code: int | None = None) -> Iterator[Listener]:
    """Yield the process's listener with another exit code; the outermost context installs and removes it."""
    global _active
    outer = _active
    if outer is not None:
        before, outer.code = outer.code, code
        try:
            yield outer
        finally:
            outer.code = before
        return
    _active = Listener(code)
    _active.install()
    try:
        yield _active
    finally:
        _active.restore()
        _active = None


@contextmanager
def held() -> Iterator[None]:
    """Hold back the ending signals from this thread and from processes that are started meanwhile; these keep holding.

    A process that multiprocessing starts can then prepare for signals before the first one reaches it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        resource_tracker.ensure_running()  # it lets two of the signals through again
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Let the signals that were ``held`` when this process was started reach it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def from_parent_only() -> None:
    """Let this worker process end with its parent or by its parent's SIGTERM, and by no signal to the whole group."""
    if multiprocessing.parent_process() is None:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    if hasattr(signal, "sigtimedwait"):  # not on macOS
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        came = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if came is not None and came.si_pid == parent.pid:
            break
    os._exit(0)


def leave_terminal() -> None:
    """Print to nowhere instead of to a closed terminal, where printing is an error."""
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
