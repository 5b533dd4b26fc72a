"""The help of every command, against what Hydra composes."""

from pathlib import Path

import pytest
import yaml
from helpers.miniature import compose_config
from omegaconf import OmegaConf

from mtlsi_net.cli.help import CONF, SHOWN, group_settings, help_text

ENTRIES = sorted(path.stem for path in (Path(__file__).parents[3] / "conf").glob("[!_]*.yaml"))
NEEDED = {name: ["data=nyud"] for name in ("score", "download", "verify_data")}


@pytest.mark.parametrize("name", ENTRIES)
def test_help_names_every_setting_and_every_choice(name):
    text = help_text(name)
    assert text.startswith(f"python -m mtlsi_net.{name} ")
    for key in compose_config(*NEEDED.get(name, []), name=name):
        group = "task_set" if key == "tasks" else key
        assert f"\n{key}:" in text or f"\n{group}=" in text or key in ("paths", "source"), key
    for group in CONF.iterdir():
        if group.is_dir() and f"\n{group.name}=" in text:
            for choice in group.glob("[!_]*.yaml"):
                assert choice.stem in text
    assert "hydra:" not in text


def test_help_names_choices_of_ones_own(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kitchens.yaml").touch()
    assert "kitchens" in help_text("train", [str(tmp_path)])
    assert "kitchens" not in help_text("train", [str(tmp_path / "none")])


@pytest.mark.parametrize("name", ENTRIES)
def test_help_shows_three_examples(name):
    examples = help_text(name).partition("\nExamples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) == 3
    assert all(example.startswith(f"  python -m mtlsi_net.{name} ") for example in examples)


def settings_shown(name, *words):
    """Return group.key -> text of its value, of the last part of a help."""
    part = help_text(name, words=words).partition("must be given):\n\n")[2].partition("\n\n")[0]
    lines = [line.partition(" #")[0].rstrip() for line in part.splitlines() if line[:1].strip()]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *[(name, NEEDED.get(name, [])) for name in SHOWN],
        *[("train", [f"model={model}"]) for model in ("mtlsi_paper", "invpt", "external", "single_task")],
        *[("train", [f"experiment={experiment}"]) for experiment in ("rooms_demo", "nyud_vitl_tuned", "pascal_swinl")],
        *[("train", ["experiment=rooms_demo", "backbone=vit_b", "optim=tuned", "data=pascal", "seed=1"])],
        *[("train", ["data=folder", "data.root=x", "data.size=[8,8]"]), ("prepare", ["source=nyu_mat"])],
        *[("evaluate", ["data=nyud"]), ("score", ["data=pascal"])],
    ],
)
def test_settings_of_groups_have_the_values_that_hydra_composes(name, words):
    shown = settings_shown(name, *words)
    assert shown
    composed = OmegaConf.to_container(compose_config(*words, name=name), resolve=False)
    for key, text in shown.items():
        value = composed
        for part in key.split("."):
            value = value[part]
        if not any(word.startswith(f"{key}=") for word in words):  # what the line itself sets is not shown
            assert yaml.safe_load(text) == yaml.safe_load(yaml.safe_dump(value)), key


def test_training_help_lists_what_one_would_change():
    shown = settings_shown("train")
    wanted = ("data.root", "data.size", "data.batch_size", "trainer.max_steps", "trainer.devices", "optim.lr")
    assert set(wanted) | {"backbone.pretrained", "model.width", "optim.optimizer._target_"} < set(shown)
    assert settings_shown("train", "data=folder")["data.root"] == "???"


def test_each_listed_setting_exists_in_some_choice():
    for command, groups in SHOWN.items():
        for group, keys in groups.items():
            choices = [path.stem for path in (CONF / group).glob("*.yaml")]
            known = {key for choice in choices for key in group_settings([CONF], group, choice)}
            assert set(keys) <= known, (command, group)


def test_values_and_comments_come_from_the_files_that_a_choice_builds_on(tmp_path):
    folder = tmp_path / "optim"
    (folder / "schedule").mkdir(parents=True)
    (folder / "_base.yaml").write_text("lr: 1.0 # of the encoder\nbetas: [0.9, 0.95]  # two\nnone: null\n")
    (folder / "schedule" / "poly.yaml").write_text("power: 0.9 # of the polynomial\n")
    text = "# mine\ndefaults:\n  - _base\n  - schedule: poly\n  - _self_\n\nlr: 2.0\nnested:\n  x: 'a b' # deep\n"
    (folder / "mine.yaml").write_text(text)
    found = {key: (own.value, own.comment) for key, own in group_settings([tmp_path], "optim", "mine").items()}
    assert found == {
        "lr": ("2.0", "of the encoder"),
        "betas": ("[0.9, 0.95]", "two"),
        "none": ("null", ""),
        "schedule.power": ("0.9", "of the polynomial"),
        "nested.x": ("'a b'", "deep"),
    }
    assert group_settings([tmp_path], "optim", "absent") == {}
    (folder / "first.yaml").write_text("defaults: [_self_, _base]\nlr: 2.0\n")
    assert group_settings([tmp_path], "optim", "first")["lr"].value == "1.0"


def test_settings_of_ones_own_choice_are_shown(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kitchens.yaml").write_text("defaults: [folder, _self_]\nroot: my_kitchens\n")
    text = help_text("train", [str(tmp_path)], ["data=kitchens"])
    assert "\ndata.root=my_kitchens " in text
