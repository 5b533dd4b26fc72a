"""Callbacks chosen on the command line, in runs of a few steps."""

import json

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature
from omegaconf import OmegaConf

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import read_history
from mtlsi_net.engine.job import run_job
from mtlsi_net.engine.train import train
from mtlsi_net.engine.trainer import training_callbacks

EVERY_STEP = ("trainer.val_check_interval=1", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


def configured(data, folder, *options, steps=4):
    return compose_config(
        *short_overrides(data, folder, steps=steps), "logger=csv", *EVERY_STEP, "data.test_split=false", *options
    )


def test_early_stopping_ends_a_run_with_its_scores_and_record(data, tmp_path):
    worse = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100")
    result = train(configured(data, tmp_path, "callbacks=[default,early_stopping]", *worse))
    last = torch.load(result.folder.last, weights_only=True)
    assert last["global_step"] == 2, "the second validation is no better by 100"
    assert set(json.loads(result.folder.metrics.read_text())) >= {"last", "best", "constant", "skill"}
    assert json.loads(result.folder.record.read_text())["seconds"]["fit"] > 0
    kept = OmegaConf.load(result.folder.config).callbacks
    assert kept.early_stopping.monitor == "val/skill"
    assert kept.best_checkpoint.filename == "best"
    assert run_job(configured(data, tmp_path, "callbacks=[default,early_stopping]", *worse)) == result.skill


def test_early_stopping_on_test_images_is_refused(data, tmp_path):
    stopping = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1", "data.test_split=true")
    with pytest.raises(UserError, match=r"callbacks.early_stopping would choose .* test images.*data.dev_split=true"):
        train(configured(data, tmp_path, *stopping))
    own = ("callbacks.early_stopping.monitor=train/total", "callbacks.early_stopping.mode=min")
    training_callbacks(configured(data, tmp_path, *stopping, *own), "")
    training_callbacks(configured(data, tmp_path, *stopping, "data.dev_split=true"), "")


def test_what_others_write_is_there(data, tmp_path, capsys):
    result = train(configured(data, tmp_path, "callbacks=[default,model_summary,device_stats]", steps=2))
    columns = {key for row in read_history(result.folder.history) for key in row}
    assert any(key.startswith("DeviceStatsMonitor") for key in columns)
    assert any(key.startswith("lr-") for key in columns)
    assert "Total params" in capsys.readouterr().out


def test_a_monitor_that_is_not_logged_ends_the_run_at_its_first_validation_with_names_that_are(data, tmp_path):
    stop = "callbacks.early_stopping"
    options = ("callbacks=[default,early_stopping]", f"{stop}.patience=1", f"{stop}.monitor=val/depth/rmsee")
    with pytest.raises(UserError, match=r"early_stopping.monitor=val/depth/rmsee is not logged; .*'val/depth/rmse'"):
        train(configured(data, tmp_path, *options))


@pytest.mark.parametrize("change", ["trainer.val_check_interval=null", "trainer.val_check_interval=5"])
def test_early_stopping_without_validations_is_refused_before_training(data, tmp_path, change):
    with pytest.raises(UserError, match=r"early_stopping needs validations, but these 4 steps have none"):
        train(configured(data, tmp_path, "callbacks=[default,early_stopping]", change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("callbacks=[early_stopping]", r"lacks step_seeds, .*callbacks=\[default,early_stopping\]"),
        ("~callbacks.last_checkpoint", "lacks last_checkpoint"),
        ("callbacks.best_checkpoint.monitor=val/depth/rmse", "keeps the highest skill"),
        ("+callbacks.best_checkpoint.nope=1", "nope is set, but ModelCheckpoint has no 'nope'"),
    ],
)
def test_callbacks_that_cannot_work_are_refused(data, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train(configured(data, tmp_path, change))


def test_a_configuration_from_before_callbacks_trains_as_it_did(data, tmp_path):
    cfg = configured(data, tmp_path / "now", steps=2)
    skill = train(cfg).skill
    old = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    old.paths.run_dir = str(tmp_path / "old")
    del old["callbacks"], old["max_time"]
    old.trainer.precision = "auto"
    assert train(old).skill == pytest.approx(skill, abs=1e-12)
    assert (tmp_path / "old" / "checkpoints" / "last.ckpt").is_file()
