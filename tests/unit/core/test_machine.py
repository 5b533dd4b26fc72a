"""Freed memory stays with the process, and cores are those that it may use."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mtlsi_net.core.machine import USER_SETTINGS, available_cores

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SMALL_PAGES = os.sysconf("SC_PAGESIZE") == 4096 and not (THP.is_file() and "[always]" in THP.read_text())

FAULTS = """
import resource
import torch
from mtlsi_net.core.machine import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
keep_freed_memory()
faults()  # until the heap is large enough
print(usual, faults())
"""


@pytest.mark.skipif(not SMALL_PAGES, reason="faults are counted in pages of 4 KiB")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
@pytest.mark.parametrize(("variable", "share"), [("MTLSI_OTHER", 0.25), ("MALLOC_TRIM_THRESHOLD_", 0.75)])
def test_large_tensors_reuse_memory_unless_the_user_has_settings(variable, share, monkeypatch):
    for name in [name for name in os.environ if name.startswith(USER_SETTINGS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, "131072")
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert usual > 8 * 2**14 * 0.9  # 64 MiB in pages of 4 KiB, each time anew
    assert (kept < share * usual) == (variable == "MTLSI_OTHER")


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert available_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores() == 8
