"""Freed memory stays with the process."""

import ctypes
import os
import sys

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
OF_USER = ("MALLOC_MMAP_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor; by default it gives every block of over 32 MiB back to the system.

    Each 4 KiB of a tensor in such memory cost a page fault: a training step of two residual convolution blocks of 192 channels
    for 4 tasks at 64x80 takes 255,000 faults and 1.9 instead of 5,000 to 15,000 and 1.2 processor seconds. (Networks whose
    maps are smaller than that, as in ``experiment=rooms_demo``, take the same time.) MALLOC_MMAP_MAX_=0 with
    MALLOC_TRIM_THRESHOLD_ in the environment would do the same, but only for those who know it before they start a command.

    The process then holds its peak until it ends. The user's own settings of these (MALLOC_MMAP_*, GLIBC_TUNABLES, ...) stay
    as they are; systems without glibc too.
    """
    if not sys.platform.startswith("linux") or any(name.startswith(OF_USER) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)
