"""Signals to the whole process group of a command that computes in a pool of processes."""

import os
import signal
import time

import pytest
from helpers.commands import Command
from helpers.processes import is_gone


@pytest.mark.parametrize("moment", ["outcomes", "between"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_with_all_its_processes_at_once(tmp_path, number, code, moment):
    running = Command("helpers.pool", moment, cwd=tmp_path, own_group=True)
    end = time.monotonic() + 120
    while len(list(tmp_path.glob("worker *"))) < 2:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(running.pid, number)
    _, errors = running.communicate(timeout=60)  # the pool's work takes ten minutes
    assert running.returncode == code, errors
    assert "Traceback" not in errors
    workers = [int(path.name.split()[1]) for path in tmp_path.glob("worker *")]
    assert all(map(is_gone, workers))
