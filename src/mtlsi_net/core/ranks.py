"""Ranks of a distributed run: detection of this process's rank, and communication before torch.distributed is set up."""

import logging
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # this module is read before torch is needed
    from torch.distributed.distributed_c10d import Store

PATIENCE = timedelta(days=1)
"""How long others wait for the first process (it may render a data set); should it die, they are ended."""

POLL = 0.02
"""Seconds between two looks at the store while a process waits."""

GRACE = 5.0
"""Seconds that a process waits before it reports an error that other processes probably share or have caused."""

BROKEN_CONNECTION = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "TCPStore", "recvValue")

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessInfo:
    """One process among the ``size`` of a run, over all nodes.

    ``starter``: ``torchrun`` (or ``cli.launch``, which sets the same variables), ``slurm`` or ``submitit``; empty for a
    single process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    starter: str = ""


@cache  # afterwards submitit's ranks look like torchrun's
def process_info() -> ProcessInfo:
    """Return this process's rank and the number of processes, from the environment variables of its starter."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        return _numbered("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    # Without a step the script was not started by srun; jobs with these two names are interactive shells.
    by_srun = "SLURM_STEP_ID" in env and env.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    if by_srun and int(env.get("SLURM_NTASKS", 1)) > 1:
        return _numbered("slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    if int(env.get("SUBMITIT_LOCAL_NTASKS", 1)) > 1:
        process = _numbered("submitit", "SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID")
        port = 20000 + 2 * (int(env["SUBMITIT_LOCAL_JOB_ID"]) % 10000)  # and the next one, see ``_store``
        os.environ |= torchrun_variables(process.rank, process.size, port)  # Lightning knows nothing of submitit
        return process
    return ProcessInfo()


def _numbered(starter: str, *names: str) -> ProcessInfo:
    rank, size, local_rank = (int(os.environ[name]) for name in names)
    return ProcessInfo(rank, size, local_rank, starter)


def torchrun_variables(rank: int, size: int, port: int, common_store: bool = False) -> dict[str, str]:
    """Return torchrun's environment variables for one of ``size`` processes on this node, for torch and Lightning.

    ``port``: port of the rendezvous; with ``common_store`` a store already listens there, otherwise rank zero opens one.
    """
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "mtlsi_net",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": str(common_store),
    }


def is_rank_zero() -> bool:
    """Return whether this process is rank zero, which writes the run's files and logs."""
    return process_info().rank == 0


def broadcast_from_rank_zero(key: str, make: Callable[[], T]) -> T:
    """Return the picklable result of ``make``, which only rank zero calls; ``key`` must be unique for every call."""
    if is_rank_zero():
        value = make()
        if process_info().size > 1:
            _store().set(key, pickle.dumps(value).hex())
        return value
    _wait_for(key)
    received: T = pickle.loads(bytes.fromhex(_store().get(key).decode()))  # written by this run's rank zero
    return received


def rank_zero_first(key: str, job: Callable[[], None]) -> None:
    """Run ``job`` in rank zero, then in the first process of every other node (it may have its own disk); all wait for it."""
    broadcast_from_rank_zero(f"{key} first", job)
    if process_info().local_rank == 0 and not is_rank_zero():
        job()
    if process_info().size > 1 and _store().add(f"{key} count", 1) == process_info().size:
        _store().set(f"{key} done", "")
    if process_info().size > 1:
        _wait_for(f"{key} done")


def _wait_for(key: str) -> None:
    """Wait until the store has a key. The store's own functions would not let a signal's handler run meanwhile."""
    end = time.monotonic() + PATIENCE.total_seconds()
    while not _store().check([key]):
        if time.monotonic() >= end:
            raise TimeoutError(f"rank zero has not set {key!r} within {PATIENCE}")
        time.sleep(POLL)


@cache  # cached: rank zero must keep the store open for the others
def _store() -> "Store":
    """Return the store that all ranks share: the starter's, or one that rank zero opens on a port of its own."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # missing in its ``__all__``
    from torch.distributed.distributed_c10d import PrefixStore

    env = os.environ
    starters = env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if process_info().starter == "slurm":
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        address, port = SLURMEnvironment().main_address, _port_beside(SLURMEnvironment().main_port)
    else:
        address, port = env["MASTER_ADDR"], int(env["MASTER_PORT"]) + (not starters)
    opens = is_rank_zero() and not starters
    store = TCPStore(address, port, is_master=opens, timeout=PATIENCE, wait_for_workers=False)
    return PrefixStore(f"mtlsi_net {env.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _port_beside(rendezvous: int) -> int:
    """Return the store's port for Lightning's under SLURM, 15000 + the job number's last four digits, or one that is set.

    The next one would be the rendezvous of the next job, perhaps on the same node.
    """
    return rendezvous - SPAN if rendezvous >= 15000 else rendezvous + 1


SPAN = 10000
"""Number of ports that Lightning shares out among SLURM jobs."""


def quieten() -> None:
    """Disable printing and logging in all processes except rank zero; errors are still shown."""
    if is_rank_zero():
        return
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    warnings.simplefilter("ignore")  # rank zero shows the same ones
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.ERROR)
    handler.setFormatter(logging.Formatter(f"process {process_info().rank}: %(message)s"))
    logging.basicConfig(handlers=[handler], force=True)


def is_broken_connection(error: BaseException) -> bool:
    """Return whether an error says no more than that another rank has ended."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in BROKEN_CONNECTION)


def defer_secondary_errors(error: BaseException) -> None:
    """Wait before reporting an error that another process may have caused or also reports: the first error ends the run."""
    consequence = is_broken_connection(error)
    if process_info().size > 1 and (consequence or not is_rank_zero()):
        time.sleep(2 * GRACE if consequence else GRACE)
