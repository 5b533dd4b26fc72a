"""W&B, seen through a stub of its public API, and the files that training leaves for it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from helpers.run_folders import write_run
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from mtlsi_net.comparison.read import read_run
from mtlsi_net.comparison.wandb_runs import fetch_runs
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.dashboard import close


class StubFile:
    def __init__(self, name, content):
        self.name, self.content = name, content

    def download(self, root, replace):
        assert replace
        path = Path(root) / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)


class StubApi:
    def __init__(self, runs):
        self.asked, self._runs = [], runs

    def runs(self, project):
        self.asked.append(project)
        return self._runs


def stub_run(run_id, files):
    return SimpleNamespace(
        id=run_id, name=f"name of {run_id}", files=lambda: [StubFile(*file) for file in files.items()]
    )


def test_run_folders_are_fetched_and_read_like_local_ones(tmp_path):
    own = write_run(tmp_path / "own")
    files = {f"2026-01-01/{path.name}": path.read_bytes() for path in own.iterdir()}
    foreign = {"config.yaml": b"wandb: 1", "a/../../config.yaml": b"x", "2026-01-01/checkpoints/last.ckpt": b"x"}
    api = StubApi([stub_run("x1", files | foreign), stub_run("../x2", foreign)])
    folders, skipped = fetch_runs("me/it", tmp_path / "into", api)
    assert api.asked == ["me/it"]
    assert folders == [tmp_path / "into" / "x1" / "2026-01-01"]
    assert read_run(folders[0]).scores == read_run(own).scores
    fetched = {
        path.relative_to(tmp_path / "into").as_posix() for path in (tmp_path / "into").rglob("*") if path.is_file()
    }
    assert fetched == {f"x1/2026-01-01/{name}" for name in ("config.yaml", "metrics.json", "run.json")}
    assert skipped[0].name == "me/it/../x2 (name of ../x2)"


@pytest.mark.parametrize(
    "error", [wandb.errors.CommError("no such\nproject"), ValueError("Could not find"), OSError("no network")]
)
def test_what_wandb_says_is_one_line(tmp_path, error):
    class Failing:
        def runs(self, _):
            raise error

    with pytest.raises(UserError, match=r"wandb=me/it cannot be read \(.*wandb login") as caught:
        fetch_runs("me/it", tmp_path, Failing())
    assert "\n" not in str(caught.value)


def test_training_hands_its_files_to_wandb_offline(tmp_path):
    folder = RunFolder(write_run(tmp_path / "run"))
    logger = WandbLogger(project="test", save_dir=str(tmp_path / "run"), offline=True)
    kept = Path(logger.experiment.dir) / "run"
    close([CSVLogger(tmp_path), logger], {}, 0.0, folder)
    assert {path.name for path in kept.iterdir()} == {"config.yaml", "metrics.json", "run.json"}
    assert read_run(kept).scores == read_run(folder.root).scores
