"""Which run a command goes on with, and the ends of a run that are not its end."""

import os
import signal
import subprocess
import sys

import pytest
from helpers.killing import start, wait_for
from helpers.miniature import compose_config, short_overrides, write_miniature
from omegaconf import OmegaConf

from mtlsi_net.cli.hydra_callbacks import ChooseRunFolder
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import read_history
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.data.dataset import MultiTaskDataset
from mtlsi_net.engine.job import run_job
from mtlsi_net.engine.resume import choose_folder
from mtlsi_net.engine.train import prepare_folder, train
from mtlsi_net.lit.interruption import Interrupted, requeue, seconds


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=5)


def job(data, folder, *options):
    return compose_config(*short_overrides(data, folder, steps=3), "logger=csv", *options)


def test_a_run_out_of_time_saves_and_goes_on(data, tmp_path):
    with pytest.raises(Interrupted) as ended:
        train(job(data, tmp_path / "run", "max_time='00:00:00:00'"))
    assert ended.value.code == 75
    assert RunFolder(tmp_path / "run").last.is_file()
    assert not RunFolder(tmp_path / "run").metrics.is_file()
    assert run_job(job(data, tmp_path / "run")) == pytest.approx(train(job(data, tmp_path / "whole")).skill, abs=1e-12)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "state"), [("last", "an unfinished"), ("previous", "an unfinished"), ("metrics", "a finished")]
)
def test_a_new_run_leaves_the_run_in_its_folder_as_it_is(data, tmp_path, name, state):
    folder = RunFolder(tmp_path / "run")
    folder.create(folder.checkpoints)
    (folder.checkpoints / "best.ckpt").write_text("its best")
    getattr(folder, name).write_text("its file")
    before = files(folder.root)
    told = rf"run holds {state} run, .* resume or extend it with ckpt={folder.root}, choose another folder with paths.run_dir"
    with pytest.raises(UserError, match=told):
        train(job(data, folder.root))
    assert {path: text for path, text in files(folder.root).items() if path.name != ".lock"} == before
    config = job(data, folder.root)
    with pytest.raises(SystemExit) as ended:
        ChooseRunFolder().on_run_start(config)
    assert ended.value.code == 2


def test_a_new_run_replaces_what_one_without_a_checkpoint_left(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    folder.create(folder.checkpoints)
    best = folder.checkpoints / "best.ckpt"
    best.write_text("of the killed run")
    folder.history.write_text("step,train/total\n0,1.0\n")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    prepare_folder(folder, None)
    assert folder.slurm_job() == "77"
    assert not best.exists()
    assert not folder.history.exists()


def test_a_time_limit_has_one_form():
    assert seconds("01:02:03:04") == 86400 + 2 * 3600 + 3 * 60 + 4
    assert seconds(None) is None
    with pytest.raises(UserError, match=r"max_time=2h is not a time; write it as DD:HH:MM:SS"):
        seconds("2h")


def test_a_worker_that_dies_names_its_file(data, tmp_path, monkeypatch):
    honest = MultiTaskDataset._load

    def dies(self, draw):
        if self.ids[draw.sample] == "0003":
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(self, draw)

    monkeypatch.setattr(MultiTaskDataset, "_load", dies)
    with pytest.raises(UserError, match=r"a data worker died at .*images/0003.png"):
        train(job(data, tmp_path / "run", "data.num_workers=1"))


def unfinished(cfg, folder):
    """Write a folder as an interrupted run of ``cfg`` leaves it."""
    run = RunFolder(folder)
    run.create(run.checkpoints)
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)), run.config)
    run.last.write_bytes(b"checkpoint")
    return run


def test_the_newest_unfinished_run_of_the_same_settings_goes_on(data, tmp_path, monkeypatch, capsys):
    out = f"paths.output_dir={tmp_path}"
    cfg = job(data, tmp_path / "new", out, "ckpt=last")
    place = tmp_path / cfg.name
    with pytest.raises(UserError, match=r"neither .* nor .* has an unfinished run with a checkpoint"):
        choose_folder(cfg)
    runs = [unfinished(cfg, place / name) for name in ("a", "b", "c")]
    for age, run in enumerate(runs):
        os.utime(run.last, (1000 + age, 1000 + age))
    assert choose_folder(cfg) == place / "c"
    assert f"resuming {place / 'c'}, the newest unfinished run" in capsys.readouterr().out
    runs[2].metrics.write_text("{}")
    assert choose_folder(cfg) == place / "b"
    assert choose_folder(job(data, tmp_path / "new", out, f"ckpt={place / 'a'}")) == place / "a"
    assert choose_folder(job(data, tmp_path / "new", out, f"ckpt={runs[0].last}")) == place / "a"
    with pytest.raises(UserError, match=r"seed=0.*; this command sets .*seed=5.*newest unfinished run of"):
        choose_folder(job(data, tmp_path / "new", out, "ckpt=last", "seed=5"))
    for wrong in (tmp_path / "nothing", runs[0].checkpoints / "lsat.ckpt", runs[0].previous):
        with pytest.raises(UserError, match=rf"ckpt={wrong} is neither a run folder nor a checkpoint in one"):
            choose_folder(job(data, tmp_path / "new", out, f"ckpt={wrong}"))
        if wrong.parent == runs[0].checkpoints:
            with pytest.raises(UserError, match="neither a run folder nor a checkpoint in one"):
                run_job(job(data, runs[0].root, out, f"ckpt={wrong}"))
    runs[0].last.rename(runs[0].previous)  # as a crash may leave them
    assert choose_folder(job(data, tmp_path / "new", out, f"ckpt={runs[0].last}")) == place / "a"
    with monkeypatch.context() as patch:
        patch.chdir(runs[0].checkpoints)
        assert choose_folder(job(data, tmp_path / "new", out, "ckpt=previous.ckpt")) == place / "a"

    plain = job(data, tmp_path / "new", out)
    assert choose_folder(plain) is None
    for starter in ("TORCHELASTIC", "SLURM"):
        with monkeypatch.context() as patch:
            patch.setenv(f"{starter}_RESTART_COUNT", "1")
            assert choose_folder(plain) == place / "b"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # as in a job that was queued again
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    runs[2].job.write_text("76")
    assert choose_folder(plain) == place / "b"
    runs[2].job.write_text("77")
    assert choose_folder(plain) == place / "c", "this job has finished it"
    assert choose_folder(job(data, tmp_path / "new", out, "seed=5")) is None


def test_a_run_is_not_taken_from_the_process_that_trains_it(data, tmp_path):
    folder = RunFolder(tmp_path)
    code = (
        "import sys; from pathlib import Path; from mtlsi_net.core.run_folder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r})).occupied(): print('in', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    assert folder.is_occupied()
    folder.config.write_text("its settings")
    with pytest.raises(UserError, match="another process is training in"):
        train(job(data, folder.root, "seed=1"))
    assert folder.config.read_text() == "its settings"
    process.kill()
    process.wait()
    assert not folder.is_occupied()


def test_a_slurm_job_is_queued_again_by_its_number(monkeypatch):
    asked = []
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    requeue(lambda words, **_: asked.append(words))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    requeue(lambda words, **_: asked.append(words))
    assert asked == [["scontrol", "requeue", "17"], ["scontrol", "requeue", "4_2"]]


@pytest.mark.slow
def test_two_processes_are_told_to_stop_and_go_on_as_if_nothing_had_been(data, tmp_path):
    options = ["logger=csv", "trainer=ddp_cpu", "trainer.log_every_n_steps=1", "checkpoint_every=5"]
    settings = {key: [*short_overrides(data, tmp_path / key, steps=30), *options] for key in ("whole", "cut")}
    out, err = (whole := start(settings["whole"], tmp_path)).communicate()
    assert whole.returncode == 0, out + err
    cut = RunFolder(tmp_path / "cut")
    process = start(settings["cut"], tmp_path)
    assert wait_for(cut.last.is_file, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 75, out + err
    out, err = (again := start([*settings["cut"], "ckpt=last"], tmp_path)).communicate()
    assert again.returncode == 0, out + err
    ours, theirs = (read_history(tmp_path / key / "metrics.csv") for key in ("cut", "whole"))
    losses = [[(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] for rows in (ours, theirs)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 30
