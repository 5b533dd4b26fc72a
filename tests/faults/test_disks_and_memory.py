"""Faults of disks and memory during training: what is said, what is kept, and what is lost."""

import errno
import os
import shutil
import signal

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.cli.entry import user_errors
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.data import dataset as dataset_module
from mtlsi_net.data.dataset import MultiTaskDataset
from mtlsi_net.engine.train import train
from mtlsi_net.lit import checkpoint_io
from mtlsi_net.lit.checkpoint_io import checkpoint_step, damage
from mtlsi_net.lit.module import MultiTaskModule


@pytest.fixture
def data(tmp_path):
    return write_miniature(tmp_path / "data", train=5)


def job(data, folder, *options):
    plain = ("logger=csv", "checkpoint_every=1", "trainer.val_check_interval=null")
    return compose_config(*short_overrides(data, folder, steps=5), *plain, *options)


def at_step(step, act, monkeypatch):
    """Call ``act`` once, before the training step with that number."""
    honest = MultiTaskModule.training_step

    def acts(self, batch, batch_idx):
        if self.global_step == step:
            act()
        return honest(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", acts)


@pytest.mark.parametrize(
    ("dies_at", "kept"), [(0, "No checkpoint was written yet; start"), (6, "last.ckpt is kept; re")]
)
def test_a_data_worker_is_killed_for_memory(data, tmp_path, monkeypatch, dies_at, kept):
    honest, reads = MultiTaskDataset._load, torch.zeros(1).share_memory_()

    def dies(self, draw):
        reads.add_(1)
        if reads > dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(self, draw)

    monkeypatch.setattr(MultiTaskDataset, "_load", dies)
    with pytest.raises(UserError, match=rf"a data worker died at .*images/00.*\. {kept}"):
        train(job(data, tmp_path / "run", "data.num_workers=1"))
    assert RunFolder(tmp_path / "run").last.is_file() == (dies_at > 0)


def test_the_disk_is_full_while_a_checkpoint_is_written(data, tmp_path, monkeypatch):
    honest, folder, saved = torch.save, RunFolder(tmp_path / "run"), []

    def half(content, file):
        saved.append(file)
        if len(saved) == 3:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(content, file)

    monkeypatch.setattr(checkpoint_io.torch, "save", half)
    with pytest.raises(
        UserError, match=r"last.ckpt cannot be written \(No space left on device\); the earlier last.ckpt"
    ):
        train(job(data, folder.root))
    assert damage(folder.last) is None
    assert checkpoint_step(folder.last) == 2
    assert not list(folder.checkpoints.glob("*.tmp"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_the_disk_takes_no_other_file_either(number, capsys):
    with pytest.raises(SystemExit) as ended, user_errors():
        raise OSError(number, os.strerror(number), "run/metrics.csv")
    assert ended.value.code == 2
    assert f"error: run/metrics.csv cannot be written ({os.strerror(number)})" in capsys.readouterr().err


def test_the_data_is_read_only(data, tmp_path):
    def state():
        return {path: path.stat().st_mtime_ns for path in (data, *data.rglob("*"))}

    before = state()
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        train(job(data, tmp_path / "run"))
    finally:
        for path in before:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert state() == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the last checkpoint of a run on the same data without a fault."""
    folder = tmp_path_factory.mktemp("whole")
    run = train(job(write_miniature(folder / "data", train=5), folder / "run")).folder
    return torch.load(run.last, weights_only=True)


@pytest.mark.parametrize("empty", [False, True])  # an unmounted drive leaves an empty folder
def test_the_data_folder_is_gone_for_a_while(data, whole, tmp_path, monkeypatch, caplog, empty):
    away = tmp_path / "away"

    def vanish():
        shutil.move(data, away)
        if empty:
            (data / "images").mkdir(parents=True)

    def comes_back(_):
        shutil.rmtree(data, ignore_errors=True)
        shutil.move(away, data)

    at_step(2, vanish, monkeypatch)
    monkeypatch.setattr(dataset_module, "sleep", comes_back)  # its own name: other threads sleep, too
    with caplog.at_level("WARNING"):
        train(job(data, tmp_path / "run"))
    assert "is gone; waiting up to" in caplog.text
    ours = torch.load(RunFolder(tmp_path / "run").last, weights_only=True)
    assert all(torch.equal(ours["state_dict"][key], value) for key, value in whole["state_dict"].items())


def test_the_data_folder_does_not_come_back(data, tmp_path, monkeypatch):
    at_step(2, lambda: shutil.move(data, tmp_path / "away"), monkeypatch)
    monkeypatch.setattr(dataset_module, "PATIENCE", 0.0)
    with pytest.raises(UserError, match=r"images/00\d\d.png.*(missing|not found|does not exist|No such file)"):
        train(job(data, tmp_path / "run"))
    assert checkpoint_step(RunFolder(tmp_path / "run").last) == 3  # whose batch had been read
