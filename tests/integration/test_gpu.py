"""Training and prediction on a GPU, against the CPU."""

import json
import math

import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.run_folders import last_scores
from torch.testing import assert_close

import mtlsi_net
from mtlsi_net.cli.launch import start
from mtlsi_net.engine.train import train
from mtlsi_net.train import train_one

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


def test_a_network_computes_the_same_on_both_devices(data, tmp_path):
    folder = train(compose_config(*short_overrides(data, tmp_path), "trainer=cpu", "logger=csv")).folder.root
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.no_grad():
            ours = mtlsi_net.load(folder, device="cuda")(image.cuda())
            theirs = mtlsi_net.load(folder, device="cpu")(image)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    for name, value in theirs.items():
        assert_close(ours[name].cpu(), value, rtol=1e-3, atol=1e-3)


def test_a_few_steps_in_bfloat16(data, tmp_path):
    if not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bfloat16")
    options = ("trainer=gpu", "trainer.devices=1", "trainer.precision=bf16-mixed", "logger=csv")
    result = train(compose_config(*short_overrides(data, tmp_path, steps=3), *options))
    scores = last_scores(result.folder.root)
    assert math.isfinite(scores["depth"]["rmse"])
    assert json.loads(result.folder.record.read_text())["hardware"]["gpus"]


def test_two_gpus_train_one_run(data, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two GPUs")
    options = ("trainer=gpu", "trainer.devices=2", "logger=csv")
    assert math.isfinite(start(train_one, compose_config(*short_overrides(data, tmp_path), *options)))
    assert json.loads((tmp_path / "run.json").read_text())["hardware"]["processes"] == 2
