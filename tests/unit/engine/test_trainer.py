"""What lightning.Trainer is called with, against the configuration."""

import functools
import logging

import lightning as L
import pytest
from helpers.miniature import compose_config
from omegaconf import OmegaConf

from mtlsi_net.cli.entry import current_option
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.trainer import _check_validates, build_trainer, quieten_lightning


class Called(Exception):
    """Ends the construction of a trainer with what it was called with."""


@pytest.fixture(autouse=True)
def _recorded(monkeypatch):
    def record(self, **options):  # noqa: ARG001
        raise Called(options)

    monkeypatch.setattr(L.Trainer, "__init__", functools.wraps(L.Trainer.__init__)(record))


@pytest.mark.parametrize("choice", ["auto", "cpu", "gpu", "ddp", "ddp_cpu"])
def test_lightning_gets_every_setting_of_the_trainer_as_it_stands_in_the_configuration(choice, tmp_path):
    cfg = compose_config(f"trainer={choice}", "logger=csv", f"paths.run_dir={tmp_path}")
    expected = OmegaConf.to_container(cfg.trainer, resolve=True)
    del expected["_target_"]
    with pytest.raises(Exception, match="Called") as caught:
        build_trainer(cfg, RunFolder(tmp_path))
    got = caught.value.__cause__.args[0]
    assert {key: got.get(key) for key in expected} == expected
    assert got.keys() - expected.keys() == {
        *("logger", "callbacks", "plugins", "enable_checkpointing", "default_root_dir"),
    }


def test_a_run_of_any_length_without_validations_is_told_in_words():
    never = {"max_steps": -1, "check_val_every_n_epoch": None, "val_check_interval": None}
    with pytest.raises(UserError, match="early_stopping needs validations, but this run has none"):
        _check_validates(OmegaConf.create(never), "early_stopping")
    _check_validates(OmegaConf.create(never | {"val_check_interval": 5}), "early_stopping")


def test_noise_is_filtered_once_however_many_runs_are_opened():
    quieten_lightning()
    filters = logging.getLogger("lightning.fabric.utilities.rank_zero").filters
    count = len(filters)
    quieten_lightning()
    assert len(filters) == count


def test_a_time_limit_of_the_trainer_is_the_runs_now(capsys):
    assert current_option("train", "trainer.max_time='00:00:01:00'") == "max_time='00:00:01:00'"
    assert "trainer.max_time='00:00:01:00' is now max_time=" in capsys.readouterr().err
    assert current_option("train", "trainer.max_steps=3") == "trainer.max_steps=3"
