"""The shipped experiments at full length; minutes each, so run by `make test-slow`."""

import json

import pytest
from helpers.miniature import compose_config

from mtlsi_net.engine.train import train

pytestmark = pytest.mark.slow


def test_the_demo_beats_the_constant_prediction_on_every_task(tmp_path):
    cfg = compose_config("experiment=rooms_demo", f"paths.data_dir={tmp_path}", f"paths.run_dir={tmp_path / 'run'}")
    scores = json.loads(train(cfg).folder.metrics.read_text())
    ours, constant = scores["last"]["val"], scores["constant"]["val"]
    assert ours["semseg"]["mIoU"] >= 2 * constant["semseg"]["mIoU"]
    assert ours["depth"]["rmse"] <= 0.7 * constant["depth"]["rmse"]
    assert ours["normals"]["mean"] <= 0.7 * constant["normals"]["mean"]
    assert ours["boundary"]["odsF"] >= constant["boundary"]["odsF"] + 0.1


def test_real_photographs_are_learnt_by_heart(real_data, tmp_path):
    root = real_data / "NYUDv2_mini"
    cfg = compose_config("experiment=nyud_overfit", f"data.root={root}", f"paths.run_dir={tmp_path}")
    scores = json.loads(train(cfg).folder.metrics.read_text())["last"]["train"]
    assert scores["semseg"]["mIoU_present"] > 0.8
    assert scores["depth"]["rmse"] < 0.3
    assert scores["normals"]["mean"] < 15


def test_the_full_vit_l_takes_a_step_on_real_photographs(real_data, tmp_path):
    cfg = compose_config(
        "experiment=nyud_vitl",
        "trainer.max_steps=1",
        "data.batch_size=1",
        f"data.root={real_data / 'NYUDv2_mini'}",
        "backbone.pretrained=false",
        "logger=csv",
        f"paths.run_dir={tmp_path}",
    )
    result = train(cfg)
    assert (result.folder.checkpoints / "last.ckpt").is_file()
