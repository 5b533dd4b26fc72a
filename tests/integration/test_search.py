"""A search by Optuna as a user starts and repeats it."""

import math

import pytest
import yaml
from helpers.commands import run_command
from helpers.miniature import short_overrides, write_miniature

from mtlsi_net import train
from mtlsi_net.core.errors import FailedTrial, UserError, find_user_error

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")


def search(data, cwd, *options):
    words = [word for word in short_overrides(data, cwd, steps=1) if not word.startswith("paths.run_dir")]
    settings = ("hparams_search=optuna", "sweep=s", "data.test_split=false", *options)
    return run_command("mtlsi_net.train", "-m", *words, *settings, cwd=cwd)


def jobs(cwd):
    folders = (cwd / "outputs" / "nyud_overfit" / "sweep_s").glob("*/metrics.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in folders}


def test_a_search_lists_failed_trials_and_a_repeat_trains_nothing(tmp_path):
    data = write_miniature(tmp_path / "data")
    # no image to train on is refused
    options = ("data.max_train_images=choice(2,0)", "optim.lr=interval(0.001,0.01)", "hydra.sweeper.n_trials=3")
    done = search(data, tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "trials failed:" in done.stdout
    assert "max_train_images=0" in done.stdout.rpartition("trials failed:")[2]
    first = jobs(tmp_path)
    assert first
    best = tmp_path / "outputs" / "nyud_overfit" / "sweep_s" / "optimization_results.yaml"
    result = yaml.safe_load(best.read_text())
    assert set(result["best_params"]) == {"data.max_train_images", "optim.lr", "task_weights.aux"}

    again = search(data, tmp_path, *options)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is finished and stays as it is") == len(first)
    assert jobs(tmp_path) == first
    assert yaml.safe_load(best.read_text()) == result


@pytest.mark.parametrize(
    ("ended", "reason"), [(UserError("wrong"), "wrong"), (SystemExit(2), "code 2"), (None, "skill")]
)
def test_a_trial_without_a_skill_is_one_that_failed(monkeypatch, ended, reason):
    def start(*_):
        if ended is not None:
            raise ended
        return math.nan

    monkeypatch.setattr(train, "start", start)
    with pytest.raises(FailedTrial, match=reason) as failed:
        train.train_trial(None, "")
    assert find_user_error(failed.value) is None, "a UserError would end the search"


def test_an_interruption_ends_the_search(monkeypatch):
    def start(*_):
        raise SystemExit(75)

    monkeypatch.setattr(train, "start", start)
    with pytest.raises(SystemExit):
        train.train_trial(None, "")
