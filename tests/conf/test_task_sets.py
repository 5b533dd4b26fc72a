"""The shipped task sets, composed and instantiated."""

from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra.utils import instantiate

from mtlsi_net.tasks.base import Task

CONF = Path(__file__).parents[2] / "conf"
SETS = {
    "nyud": ["semseg", "depth", "normals", "boundary"],
    "rooms": ["semseg", "depth", "normals", "boundary"],
    "folder": ["depth", "normals", "boundary", "semseg"],
    "nyuv2_mtan": ["semseg", "depth", "normals"],
    "cityscapes_mtan": ["semseg", "depth"],
    "pascal": ["semseg", "human_parts", "saliency", "normals", "boundary"],
}


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def build(*overrides: str) -> dict[str, Task]:
    return instantiate(hydra.compose(overrides=list(overrides)).tasks, _convert_="all")


def test_every_set_is_tested():
    assert {path.stem for path in (CONF / "task_set").glob("[!_]*.yaml")} == set(SETS)


@pytest.mark.parametrize(("name", "tasks"), SETS.items())
def test_sets_hold_their_tasks_in_order(name, tasks):
    built = build(f"+task_set={name}", *(["tasks.semseg.classes=[wall,oven]"] if name == "folder" else []))
    assert isinstance(built, dict)
    assert list(built) == tasks


@pytest.mark.parametrize("path", sorted((CONF / "task").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_task_file_builds_a_task(path):
    cfg = hydra.compose(overrides=[f"+task={path.stem}"])
    assert isinstance(instantiate(cfg.task), Task)  # also without _convert_, from OmegaConf's own lists


def test_a_task_can_be_dropped_changed_and_exchanged():
    assert list(build("+task_set=nyud", "~tasks.normals")) == ["semseg", "depth", "boundary"]
    assert build("+task_set=nyud", "tasks.boundary.positive_weight=0.8")["boundary"].positive_weight == 0.8
    assert build("+task_set=nyud", "tasks.semseg.classes=[wall,floor]")["semseg"].channels == 2
    assert build("+task_set=nyud", "task@tasks.semseg=semseg_pascal")["semseg"].channels == 21


def test_sets_differ_where_their_data_do():
    nyud, rooms, pascal = (build(f"+task_set={name}") for name in ("nyud", "rooms", "pascal"))
    assert nyud["semseg"].scored is None
    assert nyud["semseg"].class_names == rooms["semseg"].class_names
    assert 0 < len(rooms["semseg"].scored) < 40
    assert (nyud["boundary"].preset, pascal["boundary"].preset) == ("nyud", "pascal")
    assert pascal["human_parts"].target.invalid == "background_only"
