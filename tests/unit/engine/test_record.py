import subprocess

import pytest

from mtlsi_net.engine import record
from mtlsi_net.engine.record import describe_run


@pytest.mark.parametrize("tracked", [True, False])
def test_a_commit_is_that_of_the_repository_that_holds_this_package(tmp_path, monkeypatch, tracked):
    """A package in an environment inside another project is not of that project's commit."""
    place = tmp_path / ".venv" / "record.py"
    place.parent.mkdir()
    place.touch()
    (tmp_path / "project.py").touch()

    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init")
    git("add", "project.py", *([".venv/record.py"] if tracked else []))
    git("commit", "-m", "first")
    monkeypatch.setattr(record, "__file__", str(place))
    assert describe_run(None, {})["commit"] == (git("rev-parse", "HEAD").strip() if tracked else None)
