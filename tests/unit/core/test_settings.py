"""Rows of the table of settings: whole keys, the nearest row above, groups of a comparison."""

import pytest

from mtlsi_net.core.settings import SETTINGS, Effect, differing_settings, setting_of


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("data.root", Effect.NEUTRAL),
        ("paths.output_dir", Effect.NEUTRAL),
        ("logger.wandb.project", Effect.NEUTRAL),
        ("callbacks.model_summary._target_", Effect.NEUTRAL),
        ("callbacks.early_stopping.patience", Effect.EXTENDS),
        ("trainer.devices", Effect.CONTINUES),
        ("trainer.max_steps", Effect.EXTENDS),
        ("data.root_color", Effect.DIFFERENT),
        ("data", Effect.DIFFERENT),
        ("optim.lr", Effect.DIFFERENT),
        ("loss_norm", Effect.DIFFERENT),
    ],
)
def test_a_setting_has_the_row_of_its_whole_name_or_the_nearest_above(key, effect):
    assert setting_of(key).effect is effect


def test_rows_of_a_comparison_are_grouped_over_what_version_01_grouped():
    before = {
        *("paths", "sweep", "ckpt", "logger", "data.root", "data.cache_dir", "data.decoded_dir", "data.num_workers"),
        *("trainer.enable_progress_bar", "trainer.max_time", "checkpoint_every", "seed", "data.seed", "name"),
        *("pictures", "non_finite", "activation_checkpointing", "compile", "data.eval_batch_size"),
        *("data.max_train_scores", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"),
        "trainer.log_every_n_steps",
    }
    output_only = {"callbacks", "trainer.enable_model_summary", "trainer.profiler"}  # these had no row
    later = {"max_time", "data.test_split", "data.max_val_images"}  # the first was trainer.max_time
    assert {name for name, setting in SETTINGS.items() if setting.same_row} == before | output_only | later


def test_job_folders_are_named_as_in_version_01():
    assert {name for name, setting in SETTINGS.items() if not setting.names_job} == {
        *("paths", "sweep", "ckpt", "logger", "data.root", "data.cache_dir", "data.decoded_dir", "data.num_workers"),
        *("trainer.enable_progress_bar", "trainer.max_time", "max_time", "checkpoint_every"),
    }


def test_differences_are_those_of_one_effect():
    old = {"seed": 0, "data": {"micro_batch": None, "root": "/a"}, "tasks": {"depth": {"weight": 1.0}}, "empty": {}}
    new = {"seed": 0, "data": {"micro_batch": 2, "root": "/b"}, "tasks": {}, "compile": False}
    assert differing_settings(old, new) == {"tasks.depth.weight": (1.0, None)}
    assert differing_settings(old, new, Effect.CONTINUES) == {"compile": (None, False), "data.micro_batch": (None, 2)}
    assert differing_settings(old, new, Effect.NEUTRAL) == {"data.root": ("/a", "/b")}


def test_a_callback_is_an_early_stopping_by_its_class_not_its_name():
    old = {"callbacks": {"mine": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "patience": 3}}}
    new = {"callbacks": {"mine": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "patience": 5}}}
    assert differing_settings(old, new, Effect.NEUTRAL) == {}
    assert differing_settings(old, new, Effect.EXTENDS) == {"callbacks.mine.patience": (3, 5)}
