"""Training commands that are told to end."""

import signal

import pytest
from helpers.killing import start, wait_for
from helpers.miniature import short_overrides, write_miniature


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "options"),
    [
        (signal.SIGTERM, 75, ()),
        (signal.SIGUSR1, 75, ()),
        (signal.SIGINT, 130, ()),
        (signal.SIGTERM, 75, ("trainer=ddp_cpu",)),
        (signal.SIGINT, 130, ("trainer=ddp_cpu",)),
    ],
)
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number, code, options):
    data = write_miniature(tmp_path / "data")
    usual = (*short_overrides(data, tmp_path / "run", 5000), "logger=csv", "checkpoint_every=1")
    process = start([*usual, *options], tmp_path)
    assert wait_for((tmp_path / "run" / "checkpoints" / "last.ckpt").is_file, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, out + err
    assert f"{number.name}: saved at step" in out
    assert f"ckpt={tmp_path / 'run'}" in out
