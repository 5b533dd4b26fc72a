"""SLURM through submitit: what would be asked of the cluster."""

import os

import pytest
from helpers.commands import run_command
from helpers.miniature import short_overrides, write_miniature


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=5)


def sweep(data, cwd, *options, path=""):
    kept = [text for text in short_overrides(data, cwd) if not text.startswith("paths.run_dir")]
    words = ("-m", *kept, "sweep=s", "logger=csv", *options)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
    environment = clean | {"OMP_NUM_THREADS": "1", "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    return run_command("mtlsi_net.train", *words, cwd=cwd, environment=environment)


def test_the_job_asks_for_four_gpus_and_a_task_for_each(data, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "srun").write_text("#!/bin/sh\n")
    (tools / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/asked.sh\necho "no such partition" >&2\nexit 1\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    options = ("hydra/launcher=slurm_4gpu", "hydra.launcher.partition=gpu", "trainer=gpu", "trainer.devices=4")
    done = sweep(data, tmp_path, *options, "seed=0,1", path=str(tools))
    assert done.returncode != 0
    assert "no such partition" in done.stderr
    lines = (tmp_path / "asked.sh").read_text().splitlines()
    asked = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH --"))
    wanted = {"nodes": "1", "gpus-per-node": "4", "ntasks-per-node": "4", "cpus-per-task": "8", "time": "1440"}
    assert wanted.items() <= asked.items()
    assert asked["partition"] == "gpu"
    assert asked["array"].startswith("0-1")
    assert "requeue" not in asked or asked["requeue"] != "0"
    assert any(line.startswith("srun ") and "submitit" in line for line in lines)
