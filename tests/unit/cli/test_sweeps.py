import re

import pytest
from helpers.miniature import compose_config
from omegaconf import OmegaConf

from mtlsi_net.cli.sweeps import NAME_LENGTH, check_launcher, job_folder
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import ProcessInfo


def test_a_jobs_name_is_readable_and_follows_from_what_affects_results():
    name = job_folder(["seed=1", "experiment=rooms_demo", "+optim.x=[1,2]", "~tasks.normals"])
    assert re.fullmatch(r"x_1_2-experiment_rooms_demo-seed_1-normals-[0-9a-f]{8}", name)
    assert name == job_folder(["~tasks.normals", "+optim.x=[1,2]", "seed=1", "experiment=rooms_demo"])
    moved = [
        "paths.output_dir=/b",
        "data.root=/elsewhere/data",
        "sweep=x",
        "logger=csv",
        "+logger.csv.name=a",
        "data.num_workers=0",
    ]
    assert job_folder(["seed=1", *moved]) == job_folder(["seed=1"])
    assert job_folder([]).startswith("defaults-")


def test_names_that_look_alike_differ_and_every_one_is_one_short_folder():
    assert job_folder(["a=x/y"]) != job_folder(["a=x_y"])
    long = [f"some.long.setting_{k}=/path/to/{k}" for k in range(50)]
    assert job_folder(long) != job_folder([*long[:-1], "some.long.setting_49=2"])
    assert len(job_folder(long)) <= NAME_LENGTH + 9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fusion_convs", "blocks_011"),
        ("[fusion_convs,decoder_convs]", "[blocks_011,blocks_100]"),
        ("[blocks_011,decoder_convs]", "[blocks_011,blocks_100]"),
    ],
)
def test_a_sweep_continues_in_folders_of_former_names(tmp_path, old, new):
    former, now = (["seed=1", f"ablation={name}"] for name in (old, new))
    _continues(tmp_path, former, now)


def test_a_sweep_continues_in_folders_of_former_options(tmp_path):
    former = ["data=rooms_small", "tasks=rooms", "ablation=fusion_convs", "tasks.depth.depth_range=[0,5]"]
    now = ["data=rooms_small", "task_set=rooms", "ablation=blocks_011", "tasks.depth.depth_range=[0,5]"]
    _continues(tmp_path, former, now)


def _continues(tmp_path, former, now):
    assert job_folder(now, str(tmp_path)) == job_folder(now)
    (tmp_path / job_folder(former)).mkdir()
    assert job_folder(now, str(tmp_path)) == job_folder(former)
    (tmp_path / job_folder(now)).mkdir()
    assert job_folder(now, str(tmp_path)) == job_folder(now)


def test_a_checkpoint_inside_can_be_named_on_hydras_command_line():
    name = job_folder(["tasks.semseg.classes=[a,'b c']", "model.phi=elu+1", "x=-1e-3", "y=ä/{b:c}", "~tasks.depth"])
    cfg = compose_config(f"ckpt=outputs/{name}/checkpoints/last.ckpt", name="evaluate")
    assert cfg.ckpt == f"outputs/{name}/checkpoints/last.ckpt"
    assert re.fullmatch(r"[\w.-]+", name, re.ASCII)


def test_existing_sweeps_keep_their_job_folders():
    overrides = ["experiment=nyud_vitl", "seed=1", "+optim.x=[1,2]", "~tasks.normals", "pictures=8", "ablation=no_gate"]
    neutral = [
        "data.root=/x",
        "data.num_workers=3",
        "checkpoint_every=5",
        "trainer.max_time='00:01:00:00'",
        "max_time='00:01:00:00'",
        "logger=csv",
    ]
    name = "x_1_2-ablation_no_gate-experiment_nyud_vitl-pictures_8-seed_1-normals-6080f6e7"  # as written by version 0.1
    assert job_folder([*overrides, *neutral]) == name


def test_neutral_overrides_continue_a_job_that_began_without_them(tmp_path):
    began = ["seed=1", "pictures=8"]
    (tmp_path / job_folder(began)).mkdir()
    more = ["non_finite=skip", "activation_checkpointing=true", "data.num_workers=3", "logger=csv"]
    assert job_folder([*began, *more], str(tmp_path)) == job_folder(began)
    assert job_folder(["seed=1", *more], str(tmp_path)) == job_folder(["seed=1", *more])  # the folder counts 8 pictures
    for another in ("seed=2", "optim.lr=1", "trainer.precision=bf16-mixed"):  # a sweep may compare precisions
        assert job_folder([*began, another], str(tmp_path)) == job_folder([*began, another])


def config(launcher, devices, num_nodes=1, **options):
    targets = {
        "basic": "BasicLauncher",
        "joblib": "x.JoblibLauncher",
        "slurm": "x.SlurmLauncher",
        "local": "x.LocalLauncher",
    }
    if launcher in ("slurm", "local"):
        options = {"tasks_per_node": 1, "nodes": 1, "gpus_per_node": None} | options
    trainer = {"devices": devices, "num_nodes": num_nodes, "accelerator": options.pop("accelerator", "cpu")}
    return OmegaConf.create({"hydra": {"launcher": {"_target_": targets[launcher], **options}}, "trainer": trainer})


@pytest.mark.parametrize(
    ("launcher", "devices", "options"),
    [
        ("basic", 1, {}),
        ("basic", 2, {}),
        ("basic", "auto", {}),
        ("joblib", 1, {"n_jobs": -1}),
        ("joblib", 2, {"n_jobs": 1}),
        ("local", 2, {}),
        ("local", 2, {"tasks_per_node": 2}),
        ("slurm", 4, {"tasks_per_node": 4}),
        ("slurm", "auto", {"tasks_per_node": 4, "gpus_per_node": 4}),
        ("slurm", 4, {"tasks_per_node": 4, "nodes": 2, "num_nodes": 2}),
        ("slurm", "auto", {}),
    ],
)
def test_launchers_whose_jobs_can_have_their_devices(launcher, devices, options):
    check_launcher(config(launcher, devices, **options))


@pytest.mark.parametrize(
    ("launcher", "devices", "options", "message"),
    [
        ("joblib", 2, {"n_jobs": 2}, r"n_jobs=2 jobs at once.*same trainer.devices=2.*leave hydra/launcher=joblib out"),
        ("joblib", "auto", {"n_jobs": -1}, r"n_jobs=-1 jobs at once.*trainer.devices=1"),
        (
            "joblib",
            1,
            {"n_jobs": 2, "accelerator": "gpu"},
            r"n_jobs=2 jobs at once.*the first GPU.*CUDA_VISIBLE_DEVICES",
        ),
        ("slurm", 1, {"tasks_per_node": 4}, r"tasks_per_node=4, but.*trainer\.devices=1"),
        ("slurm", "auto", {"tasks_per_node": 4, "gpus_per_node": 2}, r"tasks_per_node=4, but.*trainer\.devices=2"),
        ("slurm", 4, {"tasks_per_node": 4, "nodes": 2}, r"launcher.nodes=2.*but trainer.num_nodes=1"),
        ("slurm", 4, {"nodes": 2, "num_nodes": 2}, r"tasks_per_node=1, but.*trainer\.devices=4"),
        ("basic", 2, {"num_nodes": 2}, r"num_nodes=2.*needs SLURM"),
    ],
)
def test_launchers_whose_jobs_cannot_are_refused_with_advice(launcher, devices, options, message):
    with pytest.raises(UserError, match=message):
        check_launcher(config(launcher, devices, **options))


def test_a_sweep_started_in_several_processes_is_refused(monkeypatch):
    monkeypatch.setattr("mtlsi_net.cli.sweeps.process_info", lambda: ProcessInfo(0, 2, 0, "torchrun"))
    with pytest.raises(UserError, match="started in 2 processes by torchrun: start it once"):
        check_launcher(config("basic", 2))


def test_entry_points_without_a_trainer_pass():
    check_launcher(OmegaConf.create({"hydra": {"launcher": {"_target_": "hydra.BasicLauncher"}}}))
