"""Signals to the whole process group of a training: what is left, and how it continues."""

import os
import shutil
import signal

import pytest
import torch
from helpers.commands import run_command
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.core.io import read_history
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.data import datamodule
from mtlsi_net.engine.job import run_job
from mtlsi_net.lit.checkpoint_io import damage

STEPS = 6
OPTIONS = ("logger=csv", "checkpoint_every=2", "trainer.log_every_n_steps=1", "trainer.val_check_interval=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=5)


def signalled(data, folder, moment, number=signal.SIGTERM, *options, **variables):
    """Return the run folder of a training whose group is sent a signal, and the finished command."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
    environment = {**kept, "SIGNAL": number.name, "MOMENT": moment, "OMP_NUM_THREADS": "1", **variables}
    words = (*short_overrides(data, folder / "run", STEPS), *OPTIONS, *options)
    how = {"fork_ranks": True, "own_group": True}
    done = run_command("helpers.signalled", *words, cwd=folder, environment=environment, **how)
    assert "Traceback" not in done.stderr, done.stderr
    assert "worker" not in done.stderr, done.stderr
    return RunFolder(folder / "run"), done


@pytest.fixture(scope="module")
def ended(data, tmp_path_factory):
    """Return what ``signalled`` does of a training with a data worker that ends at its third step, and a copy of its folder."""
    folder, done = signalled(data, tmp_path_factory.mktemp("ended"), "third step", signal.SIGTERM, "data.num_workers=1")
    return folder, done, shutil.copytree(folder.root, folder.root.with_name("copy"))


@pytest.fixture
def interrupted(ended):
    """Return that run folder, whatever an earlier test did there, and the finished command."""
    folder, done, copy = ended
    shutil.rmtree(folder.root)
    shutil.copytree(copy, folder.root)
    return folder, done


def step_of(path):
    assert damage(path) is None
    return torch.load(path, weights_only=True)["global_step"]


def assert_saved(folder, done, step, code=75, name="SIGTERM"):
    assert done.returncode == code, done.stdout + done.stderr
    assert step_of(folder.last) == step
    assert f"{name}: saved at step {step}; resume with python -m" in done.stdout
    assert f"ckpt={folder.root}" in done.stdout
    assert not list(folder.checkpoints.glob("*.tmp"))


def test_during_a_step_with_a_data_worker(interrupted):
    assert_saved(*interrupted, step=3)


@pytest.mark.parametrize("workers", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_during_a_step_with_data_workers(data, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(datamodule, "available_cores", lambda: 4)
    folder, done = signalled(data, tmp_path, "third step", signal.SIGTERM, f"data.num_workers={workers}")
    assert_saved(folder, done, step=3)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGUSR1, 75), pytest.param(signal.SIGUSR2, 75, marks=pytest.mark.slow)],
)
def test_other_signals_with_a_data_worker(data, tmp_path, number, code):
    folder, done = signalled(data, tmp_path, "third step", number, "data.num_workers=1")
    assert_saved(folder, done, step=3, code=code, name=number.name)


def test_a_closed_terminal(data, tmp_path):
    folder, done = signalled(data, tmp_path, "third step", signal.SIGHUP, "data.num_workers=1")
    assert_saved(folder, done, step=3, name="SIGHUP")


def test_during_a_validation(data, tmp_path):
    folder, done = signalled(data, tmp_path, "validation", signal.SIGTERM, "data.num_workers=1")
    assert_saved(folder, done, step=2)


@pytest.mark.parametrize("moment", ["checkpoint", "last checkpoint"])
def test_while_a_checkpoint_is_written(data, tmp_path, moment):
    folder, done = signalled(data, tmp_path, moment, signal.SIGTERM, "data.num_workers=1")
    assert done.returncode == 75, done.stderr
    assert step_of(folder.last) in ((2, 3) if moment == "checkpoint" else (5, 6))
    assert not list(folder.checkpoints.glob("*.tmp"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_twice_at_once_to_the_group_and_to_the_process(data, tmp_path, number):
    folder, done = signalled(data, tmp_path, "third step", number, "data.num_workers=1", TWICE="1")
    assert_saved(folder, done, step=3, code=130 if number == signal.SIGINT else 75, name=number.name)


@pytest.mark.parametrize("moment", ["imports", "data check", "priors", "trainer setup"])
def test_before_the_first_step_nothing_is_kept_and_none_claimed(data, tmp_path, moment):
    folder, done = signalled(data, tmp_path, moment, signal.SIGTERM, "data.num_workers=1")
    assert done.returncode == 75, done.stdout + done.stderr
    assert not folder.has_checkpoint()
    assert "is kept" not in done.stdout + done.stderr
    if moment != "imports":
        assert "SIGTERM: stopped. No checkpoint was written yet; start the run again" in done.stdout


def test_before_the_first_step_of_a_resumed_run_its_checkpoint_stays(data, interrupted):
    folder, _ = interrupted
    before = folder.last.read_bytes()
    folder, done = signalled(data, folder.root.parent, "priors", signal.SIGTERM, f"ckpt={folder.root}")
    assert done.returncode == 75, done.stdout + done.stderr
    assert "SIGTERM: stopped. last.ckpt is kept; resume with python -m" in done.stdout
    assert folder.last.read_bytes() == before


def test_while_the_trained_weights_are_scored(data, tmp_path):
    folder, done = signalled(data, tmp_path, "scores")
    assert done.returncode == 75, done.stdout + done.stderr
    assert step_of(folder.last) == STEPS
    assert "SIGTERM: stopped. last.ckpt is kept" in done.stdout
    assert not folder.metrics.exists()


def test_the_resumed_run_has_every_step_once(data, interrupted, tmp_path):
    folder, _ = interrupted
    run_job(compose_config(*short_overrides(data, folder.root, STEPS), *OPTIONS, "data.num_workers=1"))
    run_job(compose_config(*short_overrides(data, tmp_path / "whole", STEPS), *OPTIONS))
    ours, theirs = (
        [(row["step"], row["train/loss"]) for row in read_history(root / "metrics.csv") if row.get("train/loss")]
        for root in (folder.root, tmp_path / "whole")
    )
    assert ours == theirs
    assert len(ours) == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_two_ranks_during_a_step(data, tmp_path, number, code, workers):
    options = ("trainer=ddp_cpu", f"data.num_workers={workers}")
    folder, done = signalled(data, tmp_path, "third step", number, *options, TWICE="1")
    assert_saved(folder, done, step=step_of(folder.last), code=code, name=number.name)
    assert step_of(folder.last) in (3, 4)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["priors", "trainer setup"])
def test_two_ranks_before_the_first_step(data, tmp_path, moment):
    folder, done = signalled(data, tmp_path, moment, signal.SIGTERM, "trainer=ddp_cpu")
    assert done.returncode == 75, done.stdout + done.stderr
    assert not folder.has_checkpoint()
