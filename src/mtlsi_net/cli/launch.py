"""Launcher: one command, several ranks on this node, by ``torch.multiprocessing``.

Every rank calls the same function with the composed configuration; torchrun and SLURM start ranks themselves. torch's own
``elastic_launch`` loses the ranks' exit codes after a signal, doubles a terminal's Ctrl-C, and gives ranks 30 s to save.
"""

import logging.config
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from mtlsi_net.cli.entry import user_errors
from mtlsi_net.core import ranks, signals
from mtlsi_net.core.config import check_complete, resolved
from mtlsi_net.core.errors import INTERRUPTED, UserError
from mtlsi_net.core.machine import available_cores

if TYPE_CHECKING:  # a single process reads torch only once its configuration is known to be right
    from torch.multiprocessing.spawn import ProcessContext

TIME_TO_FOLLOW = 30.0
"""Seconds that the other ranks have to end after a signal has ended the first, and again before they are killed.

They save together: what one that has ended has not saved, the others cannot save."""
TIME_TO_END = 2.0
"""Seconds before the ranks of a broken run are asked to end, and again before they are killed: in all, less than
``ranks.GRACE``, so that errors that follow from the first are not printed."""


def start(function: Callable[..., float], cfg: DictConfig, *arguments: Any) -> float:  # noqa: ANN401 - the function's own
    """Return what ``function(cfg, *arguments)`` returns in rank zero of the ranks that ``cfg.trainer`` asks for.

    The function's module imports neither torch nor Lightning: ranks read it before they know their rank.

    Raises:
        UserError: several nodes, for which torchrun or SLURM must start the processes.
        SystemExit: a rank failed; its message, or this function's, says how.
    """
    ranks.quieten()
    count = 1 if ranks.process_info().starter else local_processes(cfg)
    if count == 1:
        return function(cfg, *arguments)
    check_complete(cfg)
    if OmegaConf.is_interpolation(cfg.trainer, "precision"):
        cfg.trainer.precision = "auto"  # chosen in the ranks: asking the GPU would occupy it from this process
    same = OmegaConf.create(resolved(cfg))  # the time, for one, differs among processes
    return _run_ranks(function, (same, *arguments), count)


def local_processes(cfg: DictConfig) -> int:
    """Return how many processes one node's devices need; a UserError for several nodes: torchrun or SLURM starts these."""
    nodes = OmegaConf.select(cfg, "trainer.num_nodes", default=1)
    if nodes != 1:
        raise UserError(
            f"trainer.num_nodes={nodes} needs one process per device on every node; start them with "
            "torchrun --nnodes ... --nproc-per-node ... -m mtlsi_net.train, or with srun"
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


def _hydra_settings() -> dict[str, Any]:
    """Return what Hydra knows of this job, as plain values: plugins' classes cannot be pickled."""
    if not HydraConfig.initialized():
        return {}
    job = HydraConfig.get()
    settings: Any = OmegaConf.to_container(job)
    return settings | {"job_logging": OmegaConf.to_container(job.job_logging, resolve=True)}


def _run_ranks(function: Callable[..., float], arguments: tuple[Any, ...], count: int) -> float:
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # not in its own list of names
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # which ranks it ends
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # the ranks', on a free port
    results = multiprocessing.get_context("spawn").SimpleQueue()
    share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, available_cores() // count))}
    os.environ |= share  # of the cores; it counts before a rank reads torch
    listener = signals.active() or signals.Listener()
    shared = (count, store.port, list(sys.orig_argv), _hydra_settings(), listener.code, results, function, arguments)
    with ExitStack() as stack:
        with signals.held():
            context = spawn(_run_rank, shared, nprocs=count, join=False)  # type: ignore[no-untyped-call]
            assert context is not None
            came = stack.enter_context(_forwarding(context))
        for name in share:
            del os.environ[name]
        try:
            while context.sentinels:
                wait(list(context.sentinels))  # so that ``came`` is complete when a rank has ended
                context.join(0, TIME_TO_FOLLOW if came else TIME_TO_END)
        except ProcessRaisedException as error:
            print(error.msg.strip(), file=sys.stderr)
            _leave(f"process {error.error_index} of {count}", 1, 0)
        except ProcessExitedException as error:
            expected = listener.exit_code(next(iter(came))) if came else 0
            _leave(f"process {error.error_index} of {count}", error.exit_code, expected)
    if results.empty():  # torch takes an interrupted rank for a good one
        sys.exit(128 + signal.SIGINT)
    return float(results.get())


@contextmanager
def _forwarding(context: "ProcessContext") -> Iterator[dict[int, float]]:
    """Forward signals to the ranks, yield those that came with their times, in order; a second Ctrl-C kills the ranks."""
    came: dict[int, float] = {}

    def forward(number: int, _: object) -> None:
        now = time.monotonic()
        again = number == signal.SIGINT and now - came.setdefault(number, now) >= signals.AGAIN
        came.setdefault(number, now)
        if number == signal.SIGHUP:
            signals.leave_terminal()
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL if again else number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, forward) for number in signals.to_handle()}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(failed: str, code: int, expected: int) -> NoReturn:
    """Exit with a failed rank's code, after saying how it failed, unless that was asked for or is said already.

    ``expected``: exit code after the signal that came, which ends ranks by force, too; 0 if none came.
    """
    if expected and code < 0:
        sys.exit(expected)
    if expected or code in (2, INTERRUPTED):
        sys.exit(code)
    how = f"ended with code {code}, see its message above"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    print(f"error: {failed} {how}; the others were stopped", file=sys.stderr)
    sys.exit(max(code, 1))


def _run_rank(
    rank: int,
    count: int,
    port: int,
    argv: list[str],
    hydra: dict[str, Any],
    code_after_signal: int | None,
    results: Any,  # noqa: ANN401 - a queue
    function: Callable[..., float],
    arguments: tuple[Any, ...],
) -> None:
    """Call a function as one of the ranks; should the starter be killed, torch interrupts this process."""
    os.setsid()  # signals to the group come from the starter alone
    # as under torchrun: spawn would be the data workers' way, too, and have each validation wait for their imports
    multiprocessing.set_start_method(None, force=True)
    os.environ |= ranks.torchrun_variables(rank, count, port, common_store=True)
    sys.orig_argv[:] = argv  # the command that a record names
    if hydra:
        known: Any = OmegaConf.create({"hydra": hydra})
        HydraConfig.instance().cfg = known  # for tags of the run
        if rank == 0:
            logging.config.dictConfig(hydra["job_logging"])
    ranks.quieten()
    with user_errors():
        signals.listen_until_exit(code_after_signal)
        signals.release()
        value = function(*arguments)
        if rank == 0:
            results.put(value)
