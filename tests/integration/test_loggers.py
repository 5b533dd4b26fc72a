"""Loggers other than W&B's, and which data sets choose which."""

import json

import pytest
from helpers.miniature import compose_config, short_overrides, write_miniature
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtlsi_net.engine.train import train

EXPECTED = {
    **{key: ["csv"] for key in ("rooms_demo", "rooms_study", "rooms_bench", "nyud_overfit", "pascal_overfit")},
    **{key: ["csv", "wandb"] for key in ("nyud_vitb", "nyud_vitl", "nyud_vitl_tuned", "nyud_swinl", "nyud_dinov3l")},
    **{key: ["csv", "wandb"] for key in ("pascal_vitb", "pascal_vitl", "pascal_swinl", "pascal_dinov3l")},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


def test_published_data_sets_log_to_wandb_and_others_to_a_file():
    assert {name: list(compose_config(f"experiment={name}").logger) for name in EXPECTED} == EXPECTED
    assert list(compose_config("data=folder").logger) == ["csv"]
    assert list(compose_config("experiment=nyud_vitl", "debug=one_batch").logger) == ["csv"]
    assert list(compose_config("logger=many_loggers").logger) == ["csv", "tensorboard", "wandb"]


def test_tensorboard_has_curves_scores_and_pictures(data, tmp_path):
    words = (
        *short_overrides(data, tmp_path),
        "trainer.val_check_interval=1",
        "trainer.log_every_n_steps=1",
        "pictures=1",
    )
    result = train(compose_config(*words, "logger=tensorboard"))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scores = json.loads(result.folder.metrics.read_text())
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1]
    final = events.Scalars("last/val/depth/rmse")[0].value
    assert final == pytest.approx(scores["last"]["val"]["depth"]["rmse"], rel=1e-6)
    assert events.Scalars("skill")[0].value == pytest.approx(result.skill, rel=1e-6)
    pictures = events.Tags()["images"]
    assert {name.split("/")[1] for name in pictures if name.startswith("pictures_val/")} == {
        *("semseg", "depth", "normals", "boundary"),
    }
    assert result.folder.history.is_file()
