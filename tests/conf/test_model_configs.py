from pathlib import Path

import pytest
import timm
import torch
from helpers.modules import CHANNELS, MODELS
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mtlsi_net.models.encoder import TimmEncoder

CONF = Path(__file__).parents[2] / "conf"
BACKBONES = sorted(path.stem for path in (CONF / "backbone").glob("[!_]*.yaml"))


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=list(overrides))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_composes_and_runs(name):
    cfg = composed(f"+model={name}", "+backbone=tiny", "model.width=64")  # external: test_external.py
    encoder = instantiate(cfg.backbone, _convert_="all")
    network = instantiate(cfg.model, _convert_="all")(encoder=encoder, task_channels=CHANNELS)
    with torch.no_grad():
        prediction = network.eval()(torch.rand(1, 3, 64, 64))
    assert {task: y.shape[1] for task, y in prediction.final.items()} == CHANNELS


def test_channels_stand_nowhere_but_in_the_width():
    text = OmegaConf.to_yaml(composed("+model=mtlsi").model)
    assert text.count("width") - text.count("fine_width: 128") == text.count("head_dim") == 1
    assert "channels" not in text


def test_a_value_of_a_stage_arrives():
    cfg = composed(
        "+model=mtlsi", "+backbone=tiny", "model.width=64", "model.distiller.tokens=5", "model.fusion.depth=2"
    )
    network = instantiate(cfg.model, _convert_="all")(encoder=instantiate(cfg.backbone), task_channels=CHANNELS)
    assert network.distiller.assign.weight.shape[1] == 5
    assert len(network.fusion.blocks) == 2


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_known_to_timm_with_its_weights(name):
    cfg = composed(f"+backbone={name}").backbone
    assert timm.is_model(cfg.name)
    assert not cfg.pretrained or cfg.weights_package or cfg.name in timm.list_pretrained()
    assert cfg.image_size is None


def test_the_image_size_comes_from_the_data():
    cfg = composed("+backbone=vit_t", "+data.size=[64,96]", "backbone.pretrained=false")
    encoder = instantiate(cfg.backbone, _convert_="all")
    assert encoder.body.pos_embed.shape[1] == 1 + 4 * 6


def test_the_tiny_backbone_is_small():
    encoder = instantiate(composed("+backbone=tiny").backbone, _convert_="all")
    assert isinstance(encoder, TimmEncoder)
    assert sum(p.numel() for p in encoder.parameters()) <= 3e6
