import re

import pytest
from helpers.miniature import compose_config
from omegaconf import OmegaConf

from mtlsi_net.utils.errors import UserError
from mtlsi_net.utils.sweeps import NAME_LENGTH, check_launcher, decides, job_folder


def test_a_jobs_name_is_readable_and_follows_from_what_decides():
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


def test_a_checkpoint_inside_can_be_named_on_hydras_command_line():
    name = job_folder(["tasks.semseg.classes=[a,'b c']", "model.phi=elu+1", "x=-1e-3", "y=ä/{b:c}", "~tasks.depth"])
    cfg = compose_config(f"ckpt=outputs/{name}/checkpoints/last.ckpt", name="evaluate")
    assert cfg.ckpt == f"outputs/{name}/checkpoints/last.ckpt"
    assert re.fullmatch(r"[\w.-]+", name, re.ASCII)


def test_only_whole_keys_are_places():
    assert not decides("data.root")
    assert not decides("paths.output_dir")
    assert decides("data.root_color")
    assert decides("data")


def config(target, devices, strategy=None, **launcher):
    trainer = {"devices": devices} | ({} if strategy is None else {"strategy": strategy})
    return OmegaConf.create({"hydra": {"launcher": {"_target_": target, **launcher}}, "trainer": trainer})


@pytest.mark.parametrize("launcher", ["hydra.BasicLauncher", "hydra_plugins.JoblibLauncher", "x.LocalLauncher"])
def test_jobs_on_several_devices_are_refused_unless_spawned(launcher):
    check_launcher(config(launcher, 1, "ddp"))
    check_launcher(config(launcher, 2, "ddp_spawn"))
    for devices, strategy in ((2, "ddp"), (2, None), ("auto", "auto"), (-1, None)):
        with pytest.raises(UserError, match=rf"trainer.devices={devices}.*trainer.devices=1, or .*ddp_spawn"):
            check_launcher(config(launcher, devices, strategy))


def test_slurm_needs_a_task_for_each_device():
    check_launcher(config("x.SlurmLauncher", 4, "ddp", tasks_per_node=4))
    with pytest.raises(UserError, match=r"tasks_per_node=4 but trainer\.devices=1"):
        check_launcher(config("x.SlurmLauncher", 1, tasks_per_node=4))


def test_entry_points_without_a_trainer_pass():
    check_launcher(OmegaConf.create({"hydra": {"launcher": {"_target_": "hydra.BasicLauncher"}}}))
