"""Freed memory stays with the process."""

import ctypes
import os
import sys

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
OF_USER = ("MALLOC_MMAP_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor; by default it gives every block of over 32 MiB back to the system.

    A tensor in such memory costs a page fault for each 4 KiB, on a CPU often more than the operation that fills it. The
    process then holds its peak until it ends. The user's own settings of these (MALLOC_MMAP_*, GLIBC_TUNABLES, ...) stay as
    they are; systems without glibc too.
    """
    if not sys.platform.startswith("linux") or any(name.startswith(OF_USER) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)
