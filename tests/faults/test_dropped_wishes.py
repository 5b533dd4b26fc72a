"""Explicit settings that once had no effect: each is honoured, or refused in one line."""

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig

from mtlsi_net.cli.effect import check_words
from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.train import train
from mtlsi_net.engine.trainer import training_callbacks
from mtlsi_net.lit.distributed import check_trainer
from mtlsi_net.lit.optim import Recipe
from mtlsi_net.lit.weighting import FixedWeights, UncertaintyWeights
from mtlsi_net.models.encoder import TimmEncoder

STOPPING = (
    "_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/skill, mode: max, patience: 1, min_delta: 100"
)
EARLY_STOPPINGS = {
    "a callback of one's own": [f"+callbacks.mine={{{STOPPING}}}"],
    "with max_time": [f"+callbacks.mine={{{STOPPING}}}", "max_time='00:01:00:00'"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


def job(data, folder, *options, steps=4):
    fast = ("backbone.name=test_convnext", "~tasks.boundary", "~tasks.normals", "trainer.val_check_interval=1")
    own = ("logger=csv", "data.test_split=false", *options)
    return compose_config(*short_overrides(data, folder, steps=steps), *fast, *own)


def steps_of(result):
    return torch.load(result.folder.last, weights_only=True)["global_step"]


@pytest.mark.parametrize("case", EARLY_STOPPINGS)
def test_early_stopping_stops_as(data, tmp_path, case):
    assert steps_of(train(job(data, tmp_path, *EARLY_STOPPINGS[case]))) == 2


def test_early_stopping_waits_for_min_steps(data, tmp_path):
    options = [*EARLY_STOPPINGS["a callback of one's own"], "+trainer.min_steps=3"]
    assert steps_of(train(job(data, tmp_path, *options))) == 3


def test_early_stopping_that_can_only_stop_at_the_end_is_refused(data, tmp_path):
    choice = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=1")
    options = (*choice, "callbacks.early_stopping.min_delta=100", "trainer.val_check_interval=2")
    with pytest.raises(
        UserError, match=r"early_stopping cannot stop this run: with patience=1 .* at step 4 at the earl"
    ):
        training_callbacks(job(data, tmp_path, *options), "")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("+trainer.logger=false", "trainer.logger=False has no effect .* logger=csv"),
        (f"+trainer.callbacks=[{{{STOPPING}}}]", "add callbacks to the group"),
        ("+trainer.plugins=[]", "trainer.plugins=.* has no effect"),
        ("+trainer.default_root_dir=x", "set paths.run_dir"),
        ("+trainer.enable_checkpointing=false", "every run keeps last.ckpt"),
        ("+trainer.gradient_clip_algorithm=value", "clipped by norm"),
        ("trainer.gradient_clip_val=-1", "gradient_clip_val=-1: give at least 0"),
    ],
)
def test_arguments_of_lightnings_trainer_that_the_suite_sets_itself_are_refused(data, tmp_path, setting, message):
    with pytest.raises(UserError, match=message):
        check_trainer(job(data, tmp_path, setting).trainer)


def test_a_weights_file_is_read_even_where_pretrained_is_false(tmp_path):
    model = TimmEncoder("test_convnext", pretrained=False)
    import timm

    torch.save(timm.create_model("test_convnext", num_classes=0).state_dict(), tmp_path / "weights.pth")
    loaded = TimmEncoder("test_convnext", pretrained=False, weights_file=tmp_path / "weights.pth")
    stored = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert torch.equal(loaded.body.stem[0].weight, stored["stem.0.weight"])
    assert not torch.equal(model.body.stem[0].weight, stored["stem.0.weight"])
    with pytest.raises(UserError, match=r"weights_file=/no/file.pth does not exist"):
        TimmEncoder("test_convnext", pretrained=False, weights_file="/no/file.pth")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1),
        ("lr", float("nan")),
        ("weight_decay", -1),
        ("warmup_steps", -5),
        ("layer_decay", -0.1),
        ("ema_decay", 1),
    ],
)
def test_numbers_of_the_optimiser_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value} is out of range"):
        Recipe(torch.optim.SGD, **{"lr": 0.1, "weight_decay": 0.0, name: value})


def test_negative_loss_weights_are_refused():
    for make in (
        lambda: FixedWeights(["depth"], {"depth": -1.0}),
        lambda: FixedWeights(["depth"], aux=-1.0),
        lambda: UncertaintyWeights(["depth"], lr=-1.0),
    ):
        with pytest.raises(ValueError, match=r"=-1.0 is out of range"):
            make()


def checked(*overrides, command="train", config_dir=None):
    """Check a command line as the command does; ``config_dir``: a folder, or ``pkg://`` and a package."""
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        place = str(config_dir) if "://" in str(config_dir) else f"file://{config_dir}"
        path = [] if config_dir is None else [f"hydra.searchpath=[{place}]"]
        cfg = compose(command, [*overrides, *path], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        try:
            check_words(command, cfg)
        finally:
            HydraConfig.instance().cfg = None  # of no job: later tests start ranks in this process


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+foo=1", r"\+foo is no setting of train: nothing reads it; known"),
        ("+sed=1", "did you mean 'seed'"),
        ("++foo.bar=1", r"\+foo.bar is no setting"),
        ("+paths.foo=1", "known: data_dir, output_dir, run_dir"),
        ("+callbacks.early_stopping.patience=1", r"callbacks.early_stopping has no class.*\[default,early_stopping\]"),
        ("+logger.wandb.project=x", "logger.wandb has no class"),
        ("+tasks.foo=1", "tasks.foo has no class"),
        ("+task_weights.weights.shadow=1", "no task shadow is trained"),
    ],
)
def test_words_that_nothing_reads_are_refused(word, message):
    with pytest.raises(UserError, match=message):
        checked(word)


def test_words_for_what_another_setting_leaves_out_are_refused():
    with pytest.raises(UserError, match=r"weights.depth has no effect: no task depth is trained"):
        checked("~tasks.depth", "task_weights.weights.depth=3")
    with pytest.raises(UserError, match="backbone has no effect: model=external"):
        checked("model=external", "model.target=a.b", "backbone=resnet18")
    with pytest.raises(UserError, match=r"\+foo is no setting of predict"):
        checked("ckpt=a", "input=b", "+foo=1", command="predict")


@pytest.mark.parametrize(
    "word",
    [
        "+trainer.limit_train_batches=3",
        "+model.anything=1",  # checked with the class
        "+callbacks.timer._target_=lightning.pytorch.callbacks.Timer",
        "+task_weights.weights.depth=1",
        "+data.files.image=[a,.png]",
        "+model/fusion=identity",
        "~callbacks.learning_rate_monitor",
    ],
)
def test_additions_that_are_read_are_accepted(word):
    if word.startswith("+task_weights") or word.startswith("+model/"):
        word = word.lstrip("+")
    checked(word)


def test_a_variable_that_a_users_experiment_reads_is_accepted(tmp_path, monkeypatch):
    package = tmp_path / "my_lab"
    (package / "experiment").mkdir(parents=True)
    (package / "experiment" / "mine.yaml").write_text("# @package _global_\noptim:\n  lr: ${base_lr}\n")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for config_dir in (package, "pkg://my_lab"):
        checked("experiment=mine", "+base_lr=0.1", config_dir=config_dir)
        with pytest.raises(UserError, match=r"\+base_lrr is no setting"):
            checked("experiment=mine", "+base_lr=0.1", "+base_lrr=0.1", config_dir=config_dir)
