"""Sweeps as a user starts, interrupts and continues them."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from helpers.commands import Command, run_command
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.processes import is_gone

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import read_history
from mtlsi_net.engine.job import run_job
from mtlsi_net.engine.train import train
from mtlsi_net.lit.checkpoint_io import damage


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


def sweep(data, cwd, *overrides, threads="1"):
    """Run the command line of a sweep named ``s``; return the process and seed -> job folder."""
    kept = [text for text in short_overrides(data, cwd) if not text.startswith("paths.run_dir")]
    words = ("mtlsi_net.train", "-m", *kept, "sweep=s", *overrides)
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    if threads is None:  # they are counted when torch is imported
        afresh = {"capture_output": True, "text": True, "cwd": cwd, "env": environment, "timeout": 500}
        done = subprocess.run([sys.executable, "-m", *words], **afresh)
    else:
        done = run_command(*words, cwd=cwd, environment=environment | {"OMP_NUM_THREADS": threads})
    folders = (cwd / "outputs" / "nyud_overfit" / "sweep_s").glob("*/")
    jobs = {re.search(r"seed_(\d)", folder.name)[1]: folder for folder in folders if not folder.name.startswith(".")}
    return done, jobs


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_an_interrupted_sweep_continues_where_it_stopped(data, tmp_path):
    done, jobs = sweep(data, tmp_path, "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert set(jobs) == {"1", "2"}
    next_step = "compare the runs: python -m mtlsi_net.compare runs=outputs/nyud_overfit/sweep_s"
    assert done.stdout.strip().splitlines()[-1] == next_step
    before = {seed: metrics(folder) for seed, folder in jobs.items()}
    written = (jobs["1"] / "metrics.json").stat().st_mtime_ns
    (jobs["2"] / "metrics.json").unlink()

    done, again = sweep(data, tmp_path, "seed=1,2,3")
    assert done.returncode == 0, done.stderr
    assert set(again) == {"1", "2", "3"}
    assert again.items() >= jobs.items()
    assert f"{jobs['1'].name} is finished and stays as it is, skill {before['1']['skill']}" in done.stdout
    assert (jobs["1"] / "metrics.json").stat().st_mtime_ns == written
    assert f"{jobs['2'].name} was interrupted; resuming from its last.ckpt" in done.stdout
    assert metrics(jobs["2"])["last"] == before["2"]["last"]
    assert (again["3"] / "metrics.json").is_file()


@pytest.mark.slow  # three processes that import everything
def test_two_jobs_at_once_share_the_cores(data, tmp_path):
    done, jobs = sweep(data, tmp_path, "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", threads=None)
    assert done.returncode == 0, done.stderr
    for seed, folder in jobs.items():
        assert metrics(folder)["skill"] is not None
        record = json.loads((folder / "run.json").read_text())
        assert record["hardware"]["threads"] == max(1, record["hardware"]["cores"] // 2)
        assert record["command"].startswith("python -m mtlsi_net.train experiment=nyud_overfit")
        assert f"seed={seed}" in record["command"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_after_a_signal_to_the_group_two_jobs_at_once_with_data_workers_save_and_end(data, tmp_path, number, code):
    words = ("seed=1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "data.num_workers=1", "logger=csv")
    endless = ("trainer.max_steps=9999", "checkpoint_every=9999", "trainer.val_check_interval=null")
    kept = [text for text in short_overrides(data, tmp_path) if not text.startswith("paths.run_dir")]
    running = Command("mtlsi_net.train", "-m", *kept, "sweep=s", *words, *endless, cwd=tmp_path, own_group=True)
    end = time.monotonic() + 300
    while len(list(tmp_path.glob("outputs/*/sweep_s/*/metrics.csv"))) < 2 and running.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.2)
    os.killpg(running.pid, number)
    out, err = running.communicate(timeout=300)
    assert running.returncode == code, out + err
    assert is_gone(running.pid, group=True), "data workers and joblib's trackers end with the jobs"
    saved = list(tmp_path.glob("outputs/*/sweep_s/*/checkpoints/last.ckpt"))
    assert len(saved) == 2, out + err
    assert all(damage(path) is None for path in saved)
    assert out.count(f"{number.name}: saved at step") == 2


def test_a_launcher_that_cannot_work_is_refused_in_one_line(data, tmp_path):
    done, jobs = sweep(data, tmp_path, "hydra/launcher=joblib", "trainer=ddp_cpu", "seed=1,2")
    assert done.returncode == 2, done.stderr
    assert "jobs at once would all take the same trainer.devices=2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not jobs


def job(data, folder, *overrides):
    return compose_config(*short_overrides(data, folder, steps=4), "checkpoint_every=1", *overrides)


def test_a_half_finished_job_goes_on_with_its_optimiser_and_keeps_its_history(data, tmp_path, monkeypatch):
    from mtlsi_net.lit.module import MultiTaskModule

    options = ("trainer.log_every_n_steps=1", "task_weights=uncertainty")
    whole = train(job(data, tmp_path / "whole", *options))
    honest = MultiTaskModule.training_step

    def breaks_at_the_third_step(self, batch, batch_idx):
        if self.global_step == 2:
            raise KeyboardInterrupt
        return honest(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(MultiTaskModule, "training_step", breaks_at_the_third_step)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_job(job(data, tmp_path / "half", *options))
    assert not (tmp_path / "half" / "metrics.json").exists()
    assert run_job(job(data, tmp_path / "half", *options)) == pytest.approx(whole.skill, abs=1e-4)
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("half", "whole")
    )
    assert ours["global_step"] == 4
    for key, value in theirs["state_dict"].items():
        assert torch.allclose(ours["state_dict"][key], value, atol=1e-5), key
    steps = [row["step"] for row in read_history(tmp_path / "half" / "metrics.csv") if "train/loss" in row]
    assert steps == ["0", "1", "2", "3"]


@pytest.fixture
def finished(data, tmp_path):
    """Return the folder of a job as if it had run."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(resolved(job(data, tmp_path))))
    (tmp_path / "metrics.json").write_text('{"skill": 0.25}')
    return tmp_path


def resolved(cfg):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)


def test_a_finished_jobs_skill_is_returned_wherever_data_and_folders_went(data, finished):
    assert run_job(job(data, finished, "paths.data_dir=/elsewhere", "data.num_workers=3", "logger=wandb")) == 0.25
    (finished / "metrics.json").write_text('{"gain": 0.5}')  # as earlier versions called it
    assert run_job(job(data, finished)) == 0.5
    (finished / "metrics.json").write_text('{"skill": null}')
    assert run_job(job(data, finished)) != run_job(job(data, finished)), "NaN"


@pytest.mark.parametrize("state", ["metrics.json", "checkpoints/last.ckpt"])
def test_another_configurations_folder_is_refused(data, finished, state):
    (finished / "metrics.json").unlink()
    (finished / state).write_text("{}")
    with pytest.raises(
        UserError, match=r"was trained with optim.lr=0.004; this command sets optim.lr=0.5. Resume with"
    ):
        run_job(job(data, finished, "optim.lr=0.5"))
    words = r"this sweep's folder .* holds a run trained with optim.lr=0.004; .* optim.lr=0.5. .*sweep=NAME"
    with pytest.raises(UserError, match=words):
        run_job(job(data, finished, "optim.lr=0.5"), command="python -m mtlsi_net.train optim.lr=0.5")
    (finished / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"without config.yaml, whose settings are not known"):
        run_job(job(data, finished))
