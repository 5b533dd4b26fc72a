"""Runs that are resumed with other settings: which change nothing, and what is recorded of the rest."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from helpers.commands import run_command
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.core.io import read_history
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.job import run_job
from mtlsi_net.engine.resume import choose_folder
from mtlsi_net.engine.train import train
from mtlsi_net.lit.checkpoint_io import SafeCheckpointIO
from mtlsi_net.lit.module import MultiTaskModule

STEPS = 7
OPTIONS = (
    *("backbone.name=test_convnext", "~tasks.boundary", "~tasks.normals", "loss_norm=global", "optim.ema_decay=0.9"),
    *("data.batch_size=4", "trainer.log_every_n_steps=1", "trainer.val_check_interval=3", "checkpoint_every=1"),
)


class Killed(BaseException):
    """An exception that nothing handles."""


def options(data, folder):
    return [*short_overrides(data, folder, steps=STEPS), *OPTIONS]


def job(data, folder, *more):
    return compose_config(*options(data, folder), "logger=csv", *more)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=9)  # two steps an epoch, one image dropped


def watch(patch, kill_at=None):
    """Return a dictionary that gets step -> ids of the images trained; raise Killed at a step."""
    ids = {}
    honest = MultiTaskModule.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == kill_at:
            raise Killed
        ids.setdefault(self.global_step, []).extend(batch["id"])
        return honest(self, batch, batch_idx)

    patch.setattr(MultiTaskModule, "training_step", training_step)
    return ids


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return the folder of an uninterrupted run, with the checkpoints of every step, and the images of its steps."""
    folder = tmp_path_factory.mktemp("whole")
    honest = SafeCheckpointIO.save_checkpoint

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        honest(self, checkpoint, path, storage_options)
        if path == RunFolder(folder).last:
            saved = folder / f"step_{checkpoint['global_step']}"
            shutil.rmtree(saved, ignore_errors=True)
            shutil.copytree(path.parent, saved)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SafeCheckpointIO, "save_checkpoint", save_checkpoint)
        ids = watch(patch)
        train(job(data, folder))
    return folder, ids


def interrupted(whole, folder, step):
    """Make ``folder`` the run as it was when its process was killed after a step."""
    run = RunFolder(folder)
    run.create()
    shutil.copy(whole / "config.yaml", run.config)
    shutil.copy(whole / "metrics.csv", run.history)
    shutil.copytree(whole / f"step_{step}", run.checkpoints)
    return run


def curves(folder, *columns):
    """Return column -> step -> what was logged."""
    rows = read_history(folder / "metrics.csv")
    names = columns or {key for row in rows for key in row}
    return {name: {row["step"]: float(row[name]) for row in rows if name in row} for name in names}


def resumed(run):
    return json.loads(run.record.read_text())["resumed"]


def weights(folder):
    return torch.load(RunFolder(folder).last, weights_only=True)["state_dict"]


def best(folder):
    """Return the score and the file that the last checkpoint knows as the best."""
    states = torch.load(RunFolder(folder).last, weights_only=True)["callbacks"]
    state = next(value for key, value in states.items() if key.startswith("ModelCheckpoint"))
    assert Path(state["best_model_path"]).parent == RunFolder(folder).checkpoints
    return state["best_model_score"], Path(state["best_model_path"]).name


def test_neutral_settings_change_nothing(data, whole, tmp_path, caplog):
    run = interrupted(whole[0], tmp_path / "run", 3)
    more = ["non_finite=skip", "activation_checkpointing=true", "pictures=2", "data.num_workers=1", "logger=wandb"]
    with caplog.at_level(logging.INFO):
        run_job(job(data, run.root, *more))
    assert "not bit-exact" not in caplog.text
    assert resumed(run) == [{"step": 3, "changed": {}}]
    expected = curves(whole[0])
    assert curves(run.root, *expected) == expected
    ours, theirs = weights(run.root), weights(whole[0])
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert run.wandb_id.is_file()
    assert best(run.root) == best(whole[0])
    scores, others = (json.loads((folder / "metrics.json").read_text()) for folder in (run.root, whole[0]))
    assert scores == others


def test_a_run_continues_without_the_logger_it_had(data, whole, tmp_path):
    run = interrupted(whole[0], tmp_path / "run", 6)
    config = yaml.safe_load(run.config.read_text())
    run.config.write_text(yaml.safe_dump(config | {"logger": {"wandb": {"project": "gone"}, **config["logger"]}}))
    run.wandb_id.write_text("1234\n")
    run_job(job(data, run.root))
    assert curves(run.root) == curves(whole[0])
    assert run.wandb_id.read_text() == "1234\n"


@pytest.mark.parametrize(
    "step",  # an epoch's end, a validation, inside an epoch, all at once
    [2, 3, pytest.param(5, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)],
)
def test_other_micro_batches_take_the_remaining_samples_in_the_same_steps(data, whole, tmp_path, monkeypatch, step):
    folder, expected = whole
    run = interrupted(folder, tmp_path / "run", step)
    ids = watch(monkeypatch)
    run_job(job(data, run.root, "data.micro_batch=1"))
    assert ids == {key: expected[key] for key in range(step, STEPS)}
    assert curves(run.root, "lr-SGD") == curves(folder, "lr-SGD")
    for name in ("train/loss", "val/skill"):  # at the same steps, validations too
        assert curves(run.root, name)[name] == pytest.approx(curves(folder, name)[name], rel=1e-3)
    torch.testing.assert_close(weights(run.root), weights(folder), rtol=1e-3, atol=1e-4)


def test_every_resumption_is_recorded_though_its_process_was_killed(data, whole, tmp_path, monkeypatch, caplog):
    folder, expected = whole
    run = interrupted(folder, tmp_path / "run", 2)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        first = watch(patch, kill_at=4)
        with pytest.raises(Killed):
            run_job(job(data, run.root, "data.micro_batch=2"))
    told = "resuming at step 2 with other settings, not bit-exact: data.micro_batch null -> 2"
    assert [text for text in caplog.messages if "not bit-exact" in text] == [told]
    with monkeypatch.context() as patch:
        watch(patch, kill_at=4)  # before the first checkpoint of this process: nothing was trained so
        with pytest.raises(Killed):
            run_job(job(data, run.root, "data.micro_batch=4"))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        last = watch(monkeypatch)
        run_job(job(data, run.root, "trainer=auto", "trainer.accelerator=cpu", "trainer.precision=bf16-mixed"))
    told = (
        "resuming at step 4 with other settings, not bit-exact: data.micro_batch 2 -> null, "
        "trainer.precision 32-true -> bf16-mixed"
    )
    assert [text for text in caplog.messages if "not bit-exact" in text] == [told]
    assert first | last == {key: expected[key] for key in range(2, STEPS)}
    assert resumed(run) == [
        {"step": 2, "changed": {"data.micro_batch": [None, 2]}},
        {"step": 4, "changed": {"data.micro_batch": [2, None], "trainer.precision": ["32-true", "bf16-mixed"]}},
    ]
    config = yaml.safe_load(run.config.read_text())
    assert (config["data"]["micro_batch"], config["trainer"]["precision"]) == (None, "bf16-mixed")


def test_a_run_continues_in_two_processes(data, whole, tmp_path):
    run = interrupted(whole[0], tmp_path / "run", 3)
    words = (*options(data, run.root), "logger=csv", "trainer=ddp_cpu", f"ckpt={run.root}")
    done = run_command("mtlsi_net.train", *words, cwd=tmp_path, fork_ranks=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("not bit-exact: trainer.devices 1 -> 2, trainer.strategy auto -> ddp") == 1
    assert resumed(run) == [{"step": 3, "changed": {"trainer.devices": [1, 2], "trainer.strategy": ["auto", "ddp"]}}]
    assert curves(run.root, "lr-SGD") == curves(whole[0], "lr-SGD")
    for name in ("train/loss", "val/skill"):
        assert curves(run.root, name)[name] == pytest.approx(curves(whole[0], name)[name], rel=1e-3)


def test_ckpt_last_finds_a_run_of_other_neutral_and_machine_settings(data, whole, tmp_path):
    out = [f"paths.output_dir={tmp_path}", "ckpt=last"]
    run = interrupted(whole[0], tmp_path / job(data, tmp_path).name / "begun", 3)
    more = ["pictures=8", "trainer=ddp_cpu", "data.micro_batch=1", "trainer.precision=32-true", "logger=wandb"]
    assert choose_folder(job(data, tmp_path / "new", *out, *more)) == run.root
