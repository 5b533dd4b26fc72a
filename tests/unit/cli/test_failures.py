"""What a failed command leaves and returns."""

import re

import pytest

from mtlsi_net.cli.failures import brief_failures, failures, run_sweep_job
from mtlsi_net.core.errors import FailedTrial, UserError


def fails(error):
    def job():
        raise error

    return job


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("lr=x is text"), "lr=x is text"),
        (KeyError("a"), r"unexpected KeyError in test_failures.py:\d+: 'a'"),
        (SystemExit(2), "its processes ended with code 2"),
        (SystemExit(1), "its processes ended with code 1"),
    ],
)
def test_a_jobs_failure_is_written_and_a_later_success_removes_it(tmp_path, error, reason):
    folder = tmp_path / "job"
    folder.mkdir()
    assert run_sweep_job(fails(error), folder) is None
    ((when, told),) = failures(tmp_path).values()
    assert when > 0
    assert re.match(reason, told)
    with pytest.raises(FailedTrial, match=reason):
        run_sweep_job(fails(error), folder, search=True)
    assert run_sweep_job(lambda: 0.5, folder) == 0.5
    assert not failures(tmp_path)


@pytest.mark.parametrize("error", [SystemExit(75), SystemExit(130), KeyboardInterrupt()])
def test_an_interruption_ends_the_sweep(tmp_path, error):
    with pytest.raises(type(error)):
        run_sweep_job(fails(error), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unexpected_error_is_one_line_with_its_traceback_in_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as left, brief_failures(tmp_path):
        fails(KeyError("a"))()
    assert left.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unexpected KeyError in test_failures.py")
    assert "Traceback" in (tmp_path / "error.txt").read_text()
    with pytest.raises(UserError), brief_failures(tmp_path):
        fails(UserError("known"))()
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(KeyError), brief_failures(tmp_path):
        fails(KeyError("a"))()
