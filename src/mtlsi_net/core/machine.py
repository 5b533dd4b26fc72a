"""What a process has of its machine: cores that it may use, and memory that it keeps."""

import ctypes
import os
import sys

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
USER_SETTINGS = ("MALLOC_MMAP_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def available_cores() -> int:
    """Return how many cores this process may use: a job on a cluster often has a part of its node's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory for the next tensor; by default it returns every block above 32 MiB to the system.

    Each 4 KiB of such a tensor would cost a page fault, a third of the processor time of a training step with large
    maps. In return the process keeps its peak memory until it ends. Nothing changes where the user has set malloc
    options (``USER_SETTINGS``) or without glibc.
    """
    if not sys.platform.startswith("linux") or any(name.startswith(USER_SETTINGS) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in musl
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)
