"""Settings with values of the wrong kind."""

import re

import pytest
from helpers.commands import run_command
from helpers.miniature import compose_config, short_overrides

from mtlsi_net.cli.kinds import check_command
from mtlsi_net.core.config import instantiate_node
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.values import check_values
from mtlsi_net.engine.train import train

REFUSED = {
    "seed=null": "is no value; give a whole number of at least 0 and at most 4294967295",
    "seed=1.5": "is a number; give a whole number of at least 0",
    "data.size=96": "is a whole number; give a list of 2 whole numbers of at least 1",
    "data.size=[96]": "does not fit; give a list of 2 whole numbers of at least 1",
    "data.num_workers=-1": "is out of range; give a whole number of at least 0",
    "data.batch_size=0": "is out of range; give a whole number of at least 1",
    "data.dev_split=1": "is a whole number; give true or false",
    "data.label_share={normals: x}": "data.label_share.normals=x is text; give a number",
    "data.scale=2": "is out of range; give a number above 0 and at most 1",
    "data.label_share={normals: 0}": "data.label_share.normals=0 is out of range; give a number above 0 and at most 1",
    "data.max_train_images=0": "is out of range; give a whole number of at least 1 or null",
    "optim.lr=0.001abc": "is text; give a number",
    "optim.lr=": "is text; give a number",
    "optim.optimizer=adam": "is text; give a node with _target_",
    "model.fusion.scales=3": "is a whole number; give a list of whole numbers",
    "backbone.trainable=2.5": "is a number; give all or none or a whole number",
    "tasks.semseg.classes=5": "is a whole number; give text or a list of texts",
    "task_weights.weights.depth=x": "is text; give a number",
    "callbacks.last_checkpoint.every=x": "is text; give a whole number",
    "logger.csv.save_dir=3": "is a whole number; give text",
    "trainer.max_steps=1e3": "trainer.max_steps=1000.0 is a number; give a whole number",
    "trainer.gradient_clip_val=[1]": "is a list; give a number or null",
    "loss_norm=steps": "is not known; give device or global",
    "compile=maybe": "is text; give true or false",
    "data.root=${nope}": "data.root: Interpolation key 'nope' not found",
    "predict input=[a.png,b.png]": "is a list; give a path",
    "predict scales=[1,x]": "does not fit; give a number or a list of numbers",
    "export size=96": "is a whole number; give a list of 2 whole numbers of at least 1 or null",
    "demo port=99999": "is out of range; give a whole number of at least 1 and at most 65535 or null",
    "compare bootstrap=1.5": "is a number; give a whole number of at least 0",
    "bench rounds=0": "is out of range; give a whole number of at least 1",
    "bench images=0": "is out of range; give a whole number of at least 1",
    "bench batch_size=0": "is out of range; give a whole number of at least 1",
    "boundary max_dist=x": "is text; give a number or null",
}
ACCEPTED = (
    *("data.size=[96,128]", "optim.lr=1", "+optim.optimizer.betas=[0.9,0.99]", "backbone.trainable=2", "data.root='3'"),
    *("trainer.val_check_interval=0.5", "+trainer.limit_val_batches=2", "trainer.devices=auto", "trainer.devices=[0]"),
    *("+data.files.image=[photos,.jpg]", "tasks.semseg.classes=[a,b]", "data.max_train_images=null", "optim.lr=???"),
    *("seed=${oc.decode:'3'}", "logger=wandb", "data.extra_augmentations=[{_target_: albumentations.GaussNoise}]"),
    *(
        "predict tasks=depth",
        "predict scales=1",
        "compare runs=[a,b]",
        "export dynamic=true",
        "predict max_megapixels=0.5",
        "predict size=original",
    ),
)


def checked(text):
    command, word = text.split(" ", 1) if " " in text.partition("=")[0] else ("train", text)
    check_command(command, compose_config(word, name=command))


@pytest.mark.parametrize("text", REFUSED)
def test_a_value_of_the_wrong_kind_is_named_with_its_key_and_what_it_may_be(text):
    with pytest.raises(UserError) as told:
        checked(text)
    message = str(told.value)
    assert REFUSED[text] in message
    assert message.startswith(text.partition("=")[0].split(" ")[-1])
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "data.size=192",
        "data.size=[0,192]",
        "data.batch_size=0",
        "data.num_workers=-1",
        "data.scale=2",
        "data.zero_based=1",
    ],
)
def test_the_settings_that_all_data_sets_share_are_checked_for_ones_own_too(text):
    with pytest.raises(UserError, match=rf"^{re.escape(text)} is .*; give "):
        check_command("train", compose_config("data=folder", "data.root=x", "data.size=[96,128]", text))


def test_options_that_a_class_passes_on_are_those_of_the_next_with_a_constructor_of_its_own():
    class Base:
        def __init__(self, size: int, count: int = 1, name: str = "") -> None:
            """Take all three."""

    class Between(Base):
        """Takes what its base does."""

    class Own(Between):
        def __init__(self, size: float, **options: int) -> None:
            super().__init__(int(size), **options)

    class Last(Own):
        def __init__(self, size: float) -> None:
            super().__init__(size)

    check_values({"_target_": "own", "size": 1.5, "count": 2}, "data", {"own": Own}.get)
    check_values({"_target_": "last", "count": "x"}, "data", {"last": Last}.get)  # an argument that it does not have
    for option in ({"count": "x"}, {"name": 1}):
        with pytest.raises(UserError, match=rf"data.{next(iter(option))}="):
            check_values({"_target_": "own", **option}, "data", {"own": Own}.get)


@pytest.mark.parametrize("text", ACCEPTED)
def test_other_values_pass(text):
    checked(text)


def test_a_value_that_overrides_a_checkpoints_is_checked_too():
    cfg = compose_config("data.num_workers=-1")
    with pytest.raises(UserError, match=r"data.num_workers=-1 is out of range"):
        instantiate_node(cfg, "data")


def test_a_command_ends_in_one_line_and_writes_nothing(tmp_path):
    done = run_command("mtlsi_net.train", "seed=null", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: seed=null is no value; give a whole number of at least 0 and at most 4294967295"
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "message"),
    {
        "optim.lr=-1": "lr=-1 is out of range; give a number of at least 0",
        "optim.warmup_steps=-1": "warmup_steps=-1 is out of range",
        "+optim.optimizer.betas=[2,0.9]": "optim.optimizer: Invalid beta parameter at index 0: 2",
        "+optim.optimizer.differentiable=true": "optim.optimizer: differentiable=true cannot step",
        "task_weights.weights.depth=-1": "weights.depth=-1.* is out of range",
    }.items(),
)
def test_arguments_that_the_optimiser_refuses_end_a_run_before_its_data_is_read(tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        train(compose_config(*short_overrides(tmp_path / "no data", tmp_path / "run"), option))
    assert not (tmp_path / "run").exists()


def test_no_experiment_as_the_help_writes_it(tmp_path):
    done = run_command("mtlsi_net.train", "experiment=null", "debug=null", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "experiment" not in done.stdout


@pytest.mark.parametrize(
    ("option", "remedy"), {"overfit_batches=1": "debug=overfit", "fast_dev_run=true": "debug=one"}.items()
)
def test_an_option_of_lightnings_trainer_that_cannot_work_is_refused_with_advice(option, remedy):
    from mtlsi_net.lit.distributed import check_trainer

    with pytest.raises(UserError, match=f"trainer.{option.partition('=')[0]}=.* has no effect in this suite: {remedy}"):
        check_trainer(compose_config(f"+trainer.{option}").trainer)
