import importlib
import inspect
from pathlib import Path

import pytest
from helpers.miniature import compose_config
from hydra.utils import get_object
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from omegaconf import OmegaConf

from mtlsi_net.core.config import instantiate_node
from mtlsi_net.core.renamed import KEYWORDS, TARGETS, current_metric, current_states, modernize

OLD = (Path(__file__).parents[2] / "fixtures" / "a310456" / "targets.txt").read_text().split()
WITHOUT_SUCCESSOR = ("mtlsi_net.fetching.transfer.Connection",)
"""Only the download command's own configuration named it."""


@pytest.mark.parametrize("old", [name for name in OLD if name not in WITHOUT_SUCCESSOR])
def test_every_target_of_an_earlier_version_is_found(old):
    new = modernize({"_target_": old})["_target_"]
    assert callable(get_object(new))


def test_the_table_is_exact_and_needed():
    for old, new in TARGETS.items():
        module, _, name = new.rpartition(".")
        assert getattr(importlib.import_module(module), name).__module__ == module
        with pytest.raises(ImportError, match=r"Error loading|No module|not found|Could not|Unable"):
            get_object(old)


def test_keywords_are_those_of_the_class():
    for target, keywords in KEYWORDS.items():
        accepted = inspect.signature(get_object(target)).parameters
        assert set(keywords.values()) & set(accepted)
        assert not set(keywords) & set(accepted)


def test_a_configuration_is_renamed_inside_and_otherwise_left_alone():
    old = "mtlsi_net.models.controls.PartAndConvs"
    stage = {"_target_": old, "like": {"_target_": "torch.nn.Identity"}, "n": [1, {"like": 2}]}
    assert modernize(stage) == {
        "_target_": TARGETS[old],
        "replaces": {"_target_": "torch.nn.Identity"},
        "n": [1, {"like": 2}],
    }
    assert "like" in stage
    assert modernize({"name": old}) == {"name": old}


def test_a_user_configuration_with_old_names_still_builds():
    cfg = compose_config("model=mtlsi", "model/decoder=local_convs")
    decoder = OmegaConf.to_container(cfg.model.decoder)
    decoder["_target_"], decoder["like"] = "mtlsi_net.models.controls.PartAndConvs", decoder.pop("replaces")
    cfg.model.decoder = decoder
    assert instantiate_node(cfg, "model").keywords["decoder"].func.__name__ == "PartialDecoderWithConvs"


@pytest.mark.parametrize(
    ("name", "today"),
    [
        *[("val/gain", "val/skill"), ("dev/gain", "dev/skill"), ("gain", "skill"), ("val/skill", "val/skill")],
        *[(name, name) for name in ("val/semseg/gain", "val/gains", "gain/val", "val/depth/rmse", "step", "")],
    ],
)
def test_the_mean_over_the_constant_is_called_skill(name, today):
    assert current_metric(name) == today
    assert modernize({"a": [{"monitor": name, "name": name}]}) == {"a": [{"monitor": today, "name": name}]}


def test_callback_states_are_found_under_the_keys_that_lightning_gives_them_today():
    def keys(monitor):
        keepers = [EarlyStopping(monitor), ModelCheckpoint(monitor=monitor, mode="max"), ModelCheckpoint()]
        return [callback.state_key for callback in keepers]

    assert current_states(dict.fromkeys(keys("dev/gain"), 1)) == dict.fromkeys(keys("dev/skill"), 1)
    assert current_states({"StepSeeds": 2}) == {"StepSeeds": 2}
