import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from helpers.miniature import compose_config
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mtlsi_net.cli.kinds import check_command
from mtlsi_net.cli.sweeps import check_launcher, job_folder
from mtlsi_net.engine.build import build_tasks

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
FOLDER = ("data.root=/data", "data.size=[96,128]", "tasks.semseg.classes=[wall,oven]")
"""Settings that experiments on one's own data have no defaults for."""
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_resolves_and_is_named_after_its_file(experiment):
    own = FOLDER if experiment.startswith("folder") else ()
    cfg = compose_config(f"experiment={experiment}", *own)
    check_command("train", cfg)
    assert cfg.name == experiment
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # it composes alone
    depth_or_people = {"human_parts", "saliency"} if experiment.startswith("pascal") else {"depth"}
    mtan = {"nyuv2_mtan": {"semseg", "depth", "normals"}, "cityscapes_mtan": {"semseg", "depth"}}
    assert set(config["tasks"]) == mtan.get(experiment, {"semseg", "normals", "boundary"} | depth_or_people)
    assert config["task_weights"]["weights"] is None or set(build_tasks(cfg)) <= set(config["task_weights"]["weights"])


def defaults_of(name):
    """Return group -> choice of a command's own defaults and of those it builds on, read from the files."""
    found = {}
    for entry in yaml.safe_load((CONF / f"{name}.yaml").read_text())["defaults"]:
        if isinstance(entry, dict):
            found |= {re.sub(r"^(optional|override) ", "", group): choice for group, choice in entry.items()}
        elif entry != "_self_":
            found |= defaults_of(entry)
    return found


@cache
def groups_of(name):
    """Return the groups that a command may choose from, and a word for each: ``model/fusion``, ``task@tasks.boundary``."""
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        chosen = compose(name, return_hydra_config=True).hydra.runtime.choices
    words = sorted({*chosen, *defaults_of(name)}, reverse=True)  # of several tasks, the first stays
    # Single tasks are the same in all commands; each ablation and experiment is composed alone by a test of its own.
    elsewhere = ("ablation", "experiment") if name == "train" else ("task@",)
    return {word.partition("@")[0]: word for word in words if not word.startswith(elsewhere)}


GROUPS = sorted({path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*/[!_]*.yaml")})
COMMANDS = sorted(path.stem for path in CONF.glob("[!_]*.yaml"))
REQUIRED = {
    "boundary": {"pred", "gt", "preset"},
    "demo": {"ckpt"},
    "export": {"ckpt"},
    "predict": {"ckpt", "input"},
    "prepare": {"file", "out"},
    "score": {"pred"},
}
"""Command -> settings that it cannot have defaults for."""
INCOMPLETE = {
    "data=folder": {"data.root", "data.size", "tasks.semseg.classes"},
    "task_set=folder": {"tasks.semseg.classes"},
    "model=external": {"model.target"},
}
"""Choice -> settings that it cannot have defaults for."""


@pytest.mark.parametrize("group", [group for group in GROUPS if group not in ("ablation", "experiment")])
def test_every_choice_of_every_group_composes_alone(group):
    """In ``train`` and in the first other command with the group; in further commands, the first and the last choice."""
    names = [name for name in COMMANDS if group in groups_of(name)]
    everything = choices(group)
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        for name in names:
            for choice in everything if name in ("train", names[0]) else {everything[0], everything[-1]}:
                word = f"{groups_of(name)[group]}={choice}"
                cfg = compose(name, [word])
                expected = REQUIRED.get(name, set()) | INCOMPLETE.get(word, set())
                assert OmegaConf.missing_keys(cfg) == expected, (name, word)
                check_command(name, cfg)
                OmegaConf.resolve(cfg)


def test_every_group_is_a_group_of_some_command():
    assert {*GROUPS} <= {"ablation", "experiment"}.union(*map(groups_of, COMMANDS))


@pytest.mark.parametrize(
    "data", ["rooms", "rooms_small", "rooms_study", "rooms_bench", "rooms_bench_test", "rooms_large"]
)
def test_all_rooms_are_trained_with_the_tasks_of_rooms(data):
    assert compose_config(f"data={data}").tasks == compose_config("data=nyud", "task_set=rooms").tasks
    assert set(compose_config(f"data={data}", "task_set=pascal").tasks) >= {"saliency", "human_parts"}


@pytest.mark.parametrize("data", ["nyud", "pascal"])
def test_an_encoder_can_be_chosen_beside_a_recipe(data):
    for backbone, named in {"vit_l": "vitl", "vit_b": "vitb", "dinov3_l": "dinov3l"}.items():
        chosen = compose_config(f"experiment={data}", f"backbone={backbone}", f"name={data}_{named}")
        assert chosen == compose_config(f"experiment={data}_{named}")


@pytest.mark.parametrize("choice", [name for name in choices("source") if name != "nyu_mat"])  # a file of the user's
def test_every_source_belongs_to_a_data_set_and_can_be_read(choice):
    cfg = compose_config(f"data={choice}", name="download")
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    source = instantiate(cfg.source, _convert_="all")
    assert [address.browser for address in source.addresses] == [False, True]
    assert cfg.source.file.startswith(Path(cfg.data.root).name)


def test_data_sets_without_a_source_compose_too():
    assert "source" not in compose_config("data=rooms", name="download")


@pytest.mark.parametrize("launcher", [*choices("hydra/launcher"), "joblib"])
def test_launchers_compose_with_the_devices_they_are_for(launcher):
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        overrides = [f"hydra/launcher={launcher}", "sweep=x", "seed=3"]
        devices = re.search(r"(\d)gpu", launcher)
        overrides += [f"trainer.devices={devices[1]}"] if devices else []
        cfg = compose("train", overrides, return_hydra_config=True)
    check_launcher(cfg)
    assert cfg.hydra.sweep.dir == "outputs/train/sweep_x"
    assert cfg.hydra.sweep.subdir == job_folder([text for text in overrides if not text.startswith("hydra/")])


def test_the_lineages_recipe_is_pinned():
    cfg = compose_config("experiment=nyud_vitl")
    assert cfg.backbone.name == "vit_large_patch16_384.augreg_in21k_ft_in1k"
    assert (cfg.optim.lr, cfg.optim.weight_decay, cfg.optim.power, cfg.optim.warmup_steps) == (2e-5, 1e-6, 0.9, 0)
    assert cfg.optim.optimizer._target_ == "torch.optim.Adam"
    assert (cfg.data.batch_size, cfg.trainer.max_steps, cfg.trainer.gradient_clip_val) == (4, 40000, 10)
    assert OmegaConf.to_container(cfg.trainer)["precision"] == "${best_precision:${trainer.accelerator}}"
    assert cfg.backbone.drop_path_rate == 0.15
    assert cfg.tasks.boundary.positive_weight == 0.95
    weights = {name: cfg.task_weights.weights[name] for name in cfg.tasks}
    assert weights == {"semseg": 1, "depth": 1, "normals": 10, "boundary": 50}
    assert cfg.task_weights.aux == 1.0
    assert list(cfg.data.size) == [448, 576]


@pytest.mark.parametrize("experiment", ["folder", "folder_small"])
def test_own_data_take_three_settings_and_nothing_that_is_missing_elsewhere(experiment):
    cfg = compose_config(f"experiment={experiment}")
    assert OmegaConf.missing_keys(cfg) == {word.partition("=")[0] for word in FOLDER}
    assert cfg.optim.optimizer._target_ == "torch.optim.AdamW"
    assert cfg.backbone.pretrained


def test_own_data_on_a_cpu_are_trained_as_the_demo():
    small, demo = compose_config("experiment=folder_small", *FOLDER), compose_config("experiment=rooms_demo")
    for group in ("backbone", "model", "optim", "task_weights"):
        ours, theirs = (OmegaConf.to_container(cfg[group]) for cfg in (small, demo))
        assert ours == theirs, group
    assert small.data.batch_size == demo.data.batch_size
    assert small.trainer.accelerator == "cpu"
    assert (cfg := compose_config("experiment=folder", *FOLDER)).trainer.accelerator == "auto"
    assert (
        cfg.backbone
        == compose_config("backbone=vit_b", "backbone.drop_path_rate=0.15", *FOLDER, "data=folder").backbone
    )


def test_swin_uses_adamw_and_tuned_moves_all_its_parts():
    assert compose_config("experiment=nyud_swinl").optim.optimizer._target_ == "torch.optim.AdamW"
    tuned = instantiate(compose_config("experiment=nyud_vitl_tuned").optim, _convert_="all")
    assert 5 <= tuned.decoder_lr_factor <= 10
    assert 0.8 <= tuned.layer_decay <= 0.9
    assert (tuned.decay_all, tuned.warmup_steps) == (False, 500)
    assert tuned.ema_decay is not None


def test_pascal_experiments_are_those_of_nyud_on_other_data():
    shared = ("backbone", "model", "optim", "trainer", "task_weights")
    for experiment in ("vitb", "vitl", "swinl", "dinov3l"):
        nyud, pascal = (compose_config(f"experiment={data}_{experiment}") for data in ("nyud", "pascal"))
        for group in shared:
            assert OmegaConf.to_container(nyud[group]) == OmegaConf.to_container(pascal[group])
        assert pascal.data._target_.endswith("PascalDataModule")
        assert (list(pascal.data.size), pascal.data.crop_guide.num_classes) == ([512, 512], 21)
        weights = {name: pascal.task_weights.weights[name] for name in pascal.tasks}
        assert weights == {"semseg": 1, "human_parts": 2, "saliency": 5, "normals": 10, "boundary": 50}


def test_a_task_can_be_switched_off():
    assert set(compose_config("~tasks.normals").tasks) == {"semseg", "depth", "boundary"}
