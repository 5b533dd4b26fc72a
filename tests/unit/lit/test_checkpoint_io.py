"""Checkpoint files that are whole, torn, or cannot be written."""

import errno
import os

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.job import newest_whole
from mtlsi_net.lit.checkpoint_io import SafeCheckpointIO, damage


@pytest.fixture
def last(tmp_path):
    path = tmp_path / "last.ckpt"
    for step in (1, 2):
        SafeCheckpointIO().save_checkpoint({"global_step": step, "x": torch.arange(1000)}, path)
    return path


def test_the_one_before_is_kept_and_used_when_the_last_is_damaged(last, caplog):
    previous = last.with_name("previous.ckpt")
    whole = last.read_bytes()
    assert newest_whole([last, previous]) == last
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for torn in (b"", whole[:100], whole[:-1], bytes(flipped), bytes(len(whole))):
        last.write_bytes(torn)
        assert damage(last)
        assert newest_whole([last, previous]) == previous
        assert "last.ckpt is damaged" in caplog.text
        caplog.clear()
    assert torch.load(previous, weights_only=True)["global_step"] == 1
    previous.write_bytes(b"")
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        newest_whole([last, previous])


def test_a_full_disk_keeps_the_last_one_and_leaves_no_half_file(last, monkeypatch):
    def full(descriptor):  # noqa: ARG001 - the system call's signature
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*is kept"):
        SafeCheckpointIO().save_checkpoint({"global_step": 3}, last)
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert {path.name for path in last.parent.iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_the_best_score_so_far_of_an_earlier_version_is_found_by_the_callback_of_today(tmp_path):
    now, before = (ModelCheckpoint(tmp_path, monitor=f"val/{metric}", mode="max") for metric in ("skill", "gain"))
    before.best_model_score = torch.tensor(0.5)
    path = tmp_path / "last.ckpt"
    torch.save({"callbacks": {before.state_key: before.state_dict()}}, path)
    now.load_state_dict(SafeCheckpointIO().load_checkpoint(path)["callbacks"][now.state_key])
    assert now.best_model_score == 0.5
