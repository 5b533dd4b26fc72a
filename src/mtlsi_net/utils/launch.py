"""One command, several processes: the ranks of a run on this node, started, watched and ended together.

Every rank calls the same function with the composed configuration. The command is not run again, so that sweeps,
launchers and time stamps in folder names meet one process only; torchrun and SLURM start ranks themselves.
"""

import logging.config
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig, ListConfig, OmegaConf

from mtlsi_net.utils import ranks
from mtlsi_net.utils.config_checks import check_complete
from mtlsi_net.utils.entry import user_errors
from mtlsi_net.utils.errors import UserError

TIME_TO_SAVE = 300.0
"""Seconds that ranks have after a signal to write a checkpoint."""
TIME_TO_END = 5.0
"""Seconds between asking the ranks of a broken or interrupted run to end and ending them."""
FORWARDED = (signal.SIGTERM, signal.SIGUSR1)


def start(function: str, cfg: DictConfig, *arguments: Any) -> float:  # noqa: ANN401 - the function's own
    """Return what ``function(cfg, *arguments)`` returns in the first of the processes that ``cfg.trainer`` asks for.

    Args:
        function: dotted name; all ranks call it.
        cfg: of the run.
        arguments: further ones, picklable.

    Raises:
        UserError: nodes that nobody has started processes on.
        SystemExit: a rank failed; its own message, or one of this function's, says how.
    """
    ranks.quieten()
    count = 1 if ranks.place().starter else local_processes(cfg)
    if count == 1:
        return float(get_method(function)(cfg, *arguments))
    check_complete(cfg)
    settled = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))  # the time, for one, differs among processes
    assert isinstance(settled, DictConfig)
    return _run_ranks(_Job(function, settled, arguments), count)


def local_processes(cfg: DictConfig) -> int:
    """Return how many processes one node's devices need.

    Raises:
        UserError: the run needs several nodes, which torchrun or SLURM must start.
    """
    nodes = OmegaConf.select(cfg, "trainer.num_nodes", default=1)
    if nodes != 1:
        raise UserError(
            f"trainer.num_nodes={nodes}, but this process was started alone: start one for each device of every node, by "
            "torchrun --nnodes ... --nproc-per-node ... -m mtlsi_net.train, or by srun"
        )
    devices = OmegaConf.select(cfg, "trainer.devices", default=1)
    return _count_devices(devices, str(OmegaConf.select(cfg, "trainer.accelerator", default="auto")))


def _count_devices(devices: Any, accelerator: str) -> int:  # noqa: ANN401 - what Lightning takes
    """Return the number of devices that Lightning's ``devices`` stands for, at least 1."""
    if isinstance(devices, list | ListConfig):
        return max(1, len(devices))
    text = str(devices)
    if "," in text:
        return len([part for part in text.split(",") if part.strip()])
    if text not in ("auto", "-1"):
        return max(1, int(text)) if text.lstrip("-").isdigit() else 1  # what else there is, Lightning refuses
    if accelerator == "cpu":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


@dataclass(frozen=True)
class _Job:
    """What ranks do."""

    function: str
    cfg: DictConfig
    arguments: Sequence[Any]


@dataclass(frozen=True)
class _Setting:
    """What ranks take over from the process that starts them."""

    size: int
    port: int
    store_port: int
    argv: list[str]
    hydra: dict[str, Any] | None
    logging: dict[str, Any] | None


def _setting(size: int) -> _Setting:
    port, store_port = _free_ports(2)
    known: Any = HydraConfig.instance().cfg if HydraConfig.initialized() else None
    logs: Any = None if known is None else OmegaConf.to_container(known.hydra.job_logging, resolve=True)
    hydra: Any = None if known is None else OmegaConf.to_container(known.hydra)  # plugins' classes cannot be pickled
    return _Setting(size, port, store_port, list(sys.orig_argv), hydra, logs)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _run_ranks(job: _Job, count: int) -> float:
    context = multiprocessing.get_context("spawn")  # a fork would break threads, and CUDA
    receiver, sender = context.Pipe(duplex=False)
    setting = _setting(count)
    processes = [
        context.Process(
            target=_be_rank, args=(rank, setting, job, sender if rank == 0 else None), name=f"process {rank}"
        )
        for rank in range(count)
    ]
    with _forwarding(processes) as signals:
        try:
            for process in processes:
                process.start()
            sender.close()
            failed = _first_failure(processes)
            if signals:  # they save what they have, each in its time
                _join(processes, TIME_TO_SAVE)
        except KeyboardInterrupt:  # a terminal sends it to the ranks too
            _join(processes, TIME_TO_END)
            print("error: interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        finally:
            _end(processes)
    if failed is not None:
        _report(failed, count, signals)
    return float(receiver.recv())


def _first_failure(processes: Sequence[SpawnProcess]) -> SpawnProcess | None:
    """Return the first process that ends with a code other than 0, None if all have ended well."""
    running: dict[Any, SpawnProcess] = {process.sentinel: process for process in processes}
    while running:
        for sentinel in wait(list(running)):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                return process
    return None


def _join(processes: Sequence[SpawnProcess], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End what still runs."""
    running = [process for process in processes if process.pid is not None and process.is_alive()]
    for process in running:
        process.terminate()
    _join(running, TIME_TO_END)
    for process in running:
        process.kill()
    _join(running, TIME_TO_END)


def _report(failed: SpawnProcess, count: int, signals: Sequence[int]) -> NoReturn:
    code = failed.exitcode or 0
    if signals or code == 2:  # as asked for; or the rank has said what is wrong in one line
        sys.exit(code if code > 0 else 128 - code)
    how = f"ended with code {code}, its message stands above"
    if code < 0:
        name = signal.Signals(-code).name
        how = f"was killed by {name}" + (", for want of memory?" if -code == signal.SIGKILL else "")
    print(f"error: {failed.name} of {count} {how}; the others were ended", file=sys.stderr)
    sys.exit(max(code, 1))


@contextmanager
def _forwarding(processes: Sequence[SpawnProcess]) -> Iterator[list[int]]:
    """Hand signals that ask for a checkpoint on to the ranks; yield the list of those that came."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def forward(number: int, _: object) -> None:
        came.append(number)
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _be_rank(rank: int, setting: _Setting, job: _Job, sender: Connection | None) -> None:
    """Do a job as one of its processes; the first sends what it found."""
    _end_with_starter()
    os.environ |= ranks.rank_variables(rank, setting.size, setting.port)
    os.environ[ranks.STORE_PORT] = str(setting.store_port)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // setting.size)))
    sys.orig_argv[:] = setting.argv  # the command that a record names
    if setting.hydra is not None:
        known: Any = OmegaConf.create({"hydra": setting.hydra})
        HydraConfig.instance().cfg = known  # what it was told, for tags of the run
    if sender is not None and setting.logging is not None:
        logging.config.dictConfig(setting.logging)
    ranks.quieten()
    with user_errors():
        found = get_method(job.function)(job.cfg, *job.arguments)
        if sender is not None:
            sender.send(found)


def _end_with_starter() -> None:
    """End this process when the one that started it is gone, even if that was killed."""
    starter = multiprocessing.parent_process()
    assert starter is not None

    def watch() -> None:
        wait([starter.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch starter").start()
