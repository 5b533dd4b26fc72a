import multiprocessing
import os
import signal
import time

import pytest
from helpers import processes
from helpers.commands import Command, run_command

from mtlsi_net.cli import launch
from mtlsi_net.cli.launch import start
from mtlsi_net.core import ranks
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.machine import available_cores
from mtlsi_net.core.ranks import ProcessInfo, _port_beside
from mtlsi_net.core.signals import AGAIN


@pytest.fixture
def process_info(monkeypatch):
    """Return the place that some environment variables tell; whatever started the tests does not count."""
    starters = ("SLURM", "SUBMITIT", "TORCHELASTIC", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")

    def told(**variables):
        for name in list(os.environ):
            if name.startswith(starters):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        return ranks.process_info.__wrapped__()

    return told


def test_every_starter_is_recognised(process_info):
    assert process_info() == ProcessInfo()
    assert process_info(TORCHELASTIC_RUN_ID="none", RANK=3, LOCAL_RANK=1, WORLD_SIZE=4) == ProcessInfo(
        3, 4, 1, "torchrun"
    )
    slurm = {"SLURM_PROCID": 5, "SLURM_NTASKS": 8, "SLURM_LOCALID": 1}
    assert process_info(**slurm, SLURM_STEP_ID=0, SLURM_JOB_NAME="train") == ProcessInfo(5, 8, 1, "slurm")
    assert process_info(**slurm, SLURM_STEP_ID=0, SLURM_JOB_NAME="interactive") == ProcessInfo()
    assert process_info(**slurm) == ProcessInfo(), "a batch script without srun"
    assert process_info(**slurm | {"SLURM_NTASKS": 1}, SLURM_STEP_ID=0) == ProcessInfo()
    submitit = {"SUBMITIT_LOCAL_GLOBALID": 1, "SUBMITIT_LOCAL_LOCALID": 1, "SUBMITIT_LOCAL_JOB_ID": 77}
    assert process_info(**submitit, SUBMITIT_LOCAL_NTASKS=1) == ProcessInfo()
    assert process_info(**submitit, SUBMITIT_LOCAL_NTASKS=2) == ProcessInfo(1, 2, 1, "submitit")
    assert os.environ["LOCAL_RANK"] == "1", "Lightning reads it"


def test_no_slurm_job_listens_on_a_port_of_another():
    rendezvous = set(range(15000, 25000))  # Lightning's, by the job number's last four digits
    stores = {_port_beside(port) for port in rendezvous}
    assert len(stores) == len(rendezvous)
    assert not stores & rendezvous
    assert _port_beside(12345) == 12346, "MASTER_PORT may be set"


def test_ranks_agree_take_turns_leave_printing_to_the_first_and_start_workers_as_one_process_does(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first = start(processes.meet, processes.processes(2), tmp_path)
    told = {(tmp_path / f"{rank}").read_text() for rank in range(2)}
    threads, workers = max(1, available_cores() // 2), multiprocessing.get_start_method()
    assert told == {f"{first:.0f} 2 {threads} ['0'] {workers}"}, "one node: the first does what has to be done once"
    assert first != os.getpid()
    assert capfd.readouterr().out == "printed by 0\n"


def test_one_process_needs_no_others(tmp_path):
    assert start(processes.meet, processes.processes(1), tmp_path) == os.getpid()


@pytest.mark.parametrize(
    ("rank", "how", "code", "message"),
    [
        (1, "killed", 1, "error: process 1 of 2 was killed by SIGKILL (out of memory?); the others were stopped"),
        (1, "leaves", 7, "error: process 1 of 2 ended with code 7, see its message above"),
        (1, "is told", 2, "error: process 1: the label is torn; get it again\n"),
        (0, "breaks", 1, "ValueError: something nobody thought of\nerror: process 0 of 2 ended with code 1"),
    ],
)
def test_a_rank_that_dies_ends_the_run_with_its_reason(tmp_path, rank, how, code, message):
    done = run_command("helpers.processes", "die", str(tmp_path), str(rank), how, fork_ranks=True)
    assert done.returncode == code
    assert not any(running(int(path.read_text())) for path in tmp_path.glob("ready *"))
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1


def in_a_process(function, folder, **variables):
    """Start ranks from a process, and group, of their own; return it when they are ready, and their ids."""
    options = {"environment": os.environ | variables, "fork_ranks": True, "own_group": True}
    starter = Command("helpers.processes", function, str(folder), **options)
    ready = [folder / f"ready {rank}" for rank in range(2)]
    while not all(path.is_file() and path.read_text() for path in ready):
        time.sleep(0.05)
    return starter, [int(path.read_text()) for path in ready]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_reaches_each_rank_once_with_time_to_save(tmp_path, number, code):
    starter, pids = in_a_process("save_after_signal", tmp_path)
    os.killpg(starter.pid, number)  # as a terminal does
    _, errors = starter.communicate(60)
    assert starter.returncode == code
    assert not errors
    assert not any(running(pid) for pid in pids)
    saved = {path.name: path.read_text() for path in tmp_path.glob("saved*")}
    assert saved == {f"saved {rank}": number.name for rank in range(2)}


def test_a_second_interrupt_ends_ranks_that_hang(tmp_path):
    starter, pids = in_a_process("hang", tmp_path)
    for _ in range(2):
        os.kill(starter.pid, signal.SIGINT)
        time.sleep(1.2 * AGAIN)  # within that time it is the same one, from the terminal and from a starter
    _, errors = starter.communicate(60)
    assert starter.returncode == 130
    assert not errors
    assert not any(running(pid) for pid in pids)


@pytest.mark.parametrize("variables", [{}, {"IN_BACKGROUND": "1"}], ids=["foreground", "background"])
def test_ranks_end_with_a_starter_that_is_killed(tmp_path, variables):
    starter, pids = in_a_process("sleep", tmp_path, **variables)
    starter.kill()
    deadline = time.monotonic() + 30
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"  # one that nobody waits for is no process any more
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("devices", "count"), [(1, 1), (3, 3), ("2", 2), ([0, 2], 2), ("0,1,2", 3), ("auto", 1), (-1, 1), (0, 1)]
)
def test_devices_are_counted_as_lightning_does(devices, count):
    assert launch.local_processes(processes.processes(devices)) == count


def test_other_nodes_need_somebody_to_start_them():
    cfg = processes.processes(2)
    cfg.trainer.num_nodes = 2
    with pytest.raises(UserError, match=r"trainer.num_nodes=2.*torchrun --nnodes"):
        launch.local_processes(cfg)
