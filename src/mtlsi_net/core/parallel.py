"""Parallel map over processes."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
from threadpoolctl import threadpool_limits

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.machine import available_cores
from mtlsi_net.core.signals import from_parent_only, held

CHUNK = 8

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def map_in_processes(
    job: Callable[[Item], Outcome], items: Sequence[Item], workers: int = 0, chunk: int = CHUNK
) -> Iterator[Outcome]:
    """Yield ``job(item)`` for every item, in order; ``job`` must be picklable.

    ``workers`` is the number of processes: 0 means one per core, 1 means no extra process. Each takes ``chunk`` items at
    a time. Raises a UserError if a process dies.
    """
    count = min(workers or available_cores(), (len(items) - 1) // chunk + 1)
    if count <= 1:
        yield from map(job, items)
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe with the threads of torch and OpenCV
    try:
        with ProcessPoolExecutor(count, context, initializer=_prepare) as pool:
            try:
                with held():
                    # Not pool.map: it cancels futures when a signal comes, and an executor whose processes are killed then
                    # ends in a traceback (Python 3.11).
                    futures = deque(
                        pool.submit(_outcomes, job, items[i : i + chunk]) for i in range(0, len(items), chunk)
                    )
                while futures:
                    yield from futures.popleft().result()
            except BaseException:  # a signal, or a consumer that stops: nobody waits for what is being computed
                for process in list((pool._processes or {}).values()):
                    process.kill()
                raise
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, probably out of memory: set workers=1; in your own script, put the call below "
            "`if __name__ == '__main__':`"
        ) from None


def _outcomes(job: Callable[[Item], Outcome], items: Sequence[Item]) -> list[Outcome]:
    return [job(item) for item in items]


def _prepare() -> None:
    from_parent_only()
    one_thread()


def one_thread() -> None:
    """Limit OpenCV and all libraries loaded so far, including numpy's BLAS, to one thread."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
