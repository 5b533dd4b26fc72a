"""Freed memory stays with the process."""

import ctypes
import os
import sys

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
OF_USER = ("MALLOC_MMAP_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor; by default it gives every block of over 32 MiB back to the system.

    Each 4 KiB of such a tensor cost a page fault, which takes a third of the processor time of a training step with large
    maps. The process then holds its peak until it ends. The user's own settings (``OF_USER``) and systems without glibc
    stay as they are.
    """
    if not sys.platform.startswith("linux") or any(name.startswith(OF_USER) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)
