"""Commands in processes of their own, forked from a server that has imported what they import.

A process started afresh spends five to nine seconds on imports. ``tests/integration/test_commands.py`` starts some
as a user does; other tests start them here.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import forkserver, process
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

from mtlsi_net.core import ranks

TESTS = Path(__file__).parents[1]


@cache
def context() -> ForkServerContext:
    """Return the start method whose processes come from the server; start the server at the first call."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with mock.patch.dict(os.environ, {"PYTHONPATH": path}):  # Python 3.11's server does not get this process's sys.path
        forkserver.set_forkserver_preload(["helpers.preloaded"])
        forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def stop_server() -> None:
    """End the server, if there is one, and wait for it: its processor time, with that of all it forked, then counts."""
    forkserver._forkserver._stop()


class Command:
    """A running ``python -m`` with the interface of ``subprocess.Popen``, in text mode.

    Args:
        module: to run.
        arguments: of its command line.
        cwd: its working directory.
        environment: all its environment variables, by default those of this process.
        fork_ranks: ranks are forked from the command's process, where they would be started afresh.
        own_group: it leads a process group of its own, as a shell's job does.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        fork_ranks: bool = False,
        own_group: bool = False,
    ) -> None:
        self.args = ["python", "-m", module, *arguments]
        self._folder = tempfile.TemporaryDirectory(prefix="mtlsi_command_")
        self._outputs = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        environment = dict(os.environ if environment is None else environment)
        words = (module, list(arguments), str(cwd or Path.cwd()), environment, self._outputs, fork_ranks, own_group)
        self._process = context().Process(target=_run, args=words)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, negative after a signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code if there is one."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was printed and what was told as errors."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        out, err = (path.read_text() for path in self._outputs)
        return out, err


def run_command(module: str, *arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m module arguments...`` to its end; options are those of ``Command``."""
    running = Command(module, *map(str, arguments), **options)
    try:
        out, err = running.communicate(timeout=500)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    assert running.returncode is not None
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


@contextmanager
def forked_ranks(start_method: str = "forkserver") -> Iterator[None]:
    """Let ranks that this process starts come from the server, or be forked, where they would be started afresh."""
    from torch.multiprocessing.spawn import start_processes

    if start_method == "forkserver":
        context()
    else:
        os.register_at_fork(after_in_child=ranks.process_info.cache_clear)  # a rank is told by its environment
    with mock.patch("torch.multiprocessing.spawn.spawn", partial(start_processes, start_method=start_method)):
        yield


@contextmanager
def forked_workers() -> Iterator[None]:
    """Let ``map_in_processes`` take its processes from the server."""
    server = context()
    with mock.patch("mtlsi_net.core.parallel.multiprocessing.get_context", return_value=server):
        yield


def _run(
    module: str,
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    outputs: list[Path],
    fork_ranks: bool,
    own_group: bool,
) -> None:
    """Become the process that ``python -m`` would have started."""
    if own_group:
        os.setpgrp()
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    process.ORIGINAL_DIR = cwd  # where processes of this one start
    multiprocessing.set_start_method(None, force=True)
    atexit._clear()  # the server's temporary folders serve its other processes, too
    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False
    weakref.finalize._registered_with_atexit = False
    sys.path.insert(0, cwd)
    sys.argv[:] = [module, *arguments]
    sys.orig_argv[:] = [sys.executable, "-m", module, *arguments]
    try:
        if fork_ranks:
            with forked_ranks("fork"):
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # processes of multiprocessing leave without
