"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from mtlsi_net.utils.heap import keep_freed_memory

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
@pytest.mark.parametrize(("variable", "share"), [("MTLSI_OTHER", 0.25), ("MALLOC_TRIM_THRESHOLD_", 0.75)])
def test_large_tensors_reuse_memory_unless_the_user_has_settings(variable, share, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv(variable, "131072")
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert usual > 8 * 2**14 * 0.9  # 64 MiB in pages of 4 KiB, each time anew
    assert (kept < share * usual) == (variable == "MTLSI_OTHER")
