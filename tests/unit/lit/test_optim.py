import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from mtlsi_net.core.errors import InputError
from mtlsi_net.lit.optim import Recipe, poly_factor
from mtlsi_net.models.baselines.shared_encoder import SharedEncoderNet
from mtlsi_net.models.baselines.single_task import SingleTaskNet
from mtlsi_net.models.distiller import SemanticTokenDistiller
from mtlsi_net.models.encoder import TimmEncoder
from mtlsi_net.models.fusion import MultiScaleQueryFusion
from mtlsi_net.models.semantic_decoder import SemanticDecoder

LR = json.loads((Path(__file__).parents[2] / "fixtures" / "metric_vectors.json").read_text())[
    "poly_lr_base2e-5_max40000_power0.9"
]


class TwoBlocks(nn.Module):
    """An encoder of two blocks, and what a network has besides."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
        self.encoder.num_layers = 2
        self.encoder.parameter_depths = lambda: {"0.weight": 1, "0.bias": 1, "1.weight": 2, "1.bias": 2}
        self.head = nn.Linear(4, 1)


def recipe(**options):
    return Recipe(optimizer=partial(torch.optim.AdamW), lr=1.0, weight_decay=0.1, **options)


@pytest.mark.parametrize("step", LR)
def test_vector_poly_schedule(step):
    assert 2e-5 * poly_factor(int(step), 40000) == pytest.approx(LR[step], rel=1e-9, abs=1e-18)


def test_runs_too_short_for_warm_up_or_average_are_told():
    assert recipe(warmup_steps=10, ema_decay=0.9).too_short(100) == []
    (warm_up,) = recipe(warmup_steps=10).too_short(10)
    assert warm_up.startswith("optim.warmup_steps=10: in 10 steps the learning rate neither")
    (average,) = recipe(ema_decay=0.99).too_short(101)
    assert average == "optim.ema_decay=0.99: after 101 steps the averaged weights are 37% those of the first step"


def test_schedule_inside_the_optimiser_is_the_same():
    parameter = nn.Parameter(torch.zeros(1))
    network = nn.Module()
    network.weight = parameter
    optimizer, schedule = recipe().build(network, max_steps=10)
    for step in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx((1 - step / 10) ** 0.9)
        optimizer.step()
        schedule.step()


def test_the_learning_rate_is_halved_once_and_otherwise_constant_without_power():
    network = nn.Linear(1, 1)
    optimizer, schedule = recipe(power=0.0, halve_at=0.5).build(network, max_steps=10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [1.0] * 5 + [0.5] * 5
    with pytest.raises(InputError, match=r"halve_at=1.5 is out of range"):
        recipe(halve_at=1.5)


def test_warm_up_rises_linearly_then_decays_from_one_to_zero():
    factors = [poly_factor(step, 30, warmup_steps=10) for step in range(31)]
    assert factors[:11] == pytest.approx([0.1 * k for k in range(1, 11)] + [1.0])
    assert factors[-1] == 0
    assert all(a > b for a, b in pairwise(factors[10:]))


def test_the_lineage_has_one_group():
    groups = recipe().parameter_groups(TwoBlocks())
    assert len(groups) == 1
    assert len(groups[0]["params"]) == 6


def test_layer_decay_decoder_factor_and_undecayed_biases():
    network = TwoBlocks()
    groups = recipe(layer_decay=0.5, decoder_lr_factor=10.0, decay_all=False).parameter_groups(network)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    expected = {
        "encoder.0.weight": (0.5, 0.1),
        "encoder.0.bias": (0.5, 0.0),
        "encoder.1.weight": (1.0, 0.1),
        "encoder.1.bias": (1.0, 0.0),
        "head.weight": (10.0, 0.1),
        "head.bias": (10.0, 0.0),
    }
    assert {name: found[id(p)] for name, p in network.named_parameters()} == expected


def test_frozen_parameters_are_left_out():
    network = TwoBlocks()
    network.encoder.requires_grad_(False)
    assert sum(len(g["params"]) for g in recipe().parameter_groups(network)) == 2


def test_norms_and_embeddings_with_a_task_axis_are_not_decayed():
    tasks, width = 3, 64
    network = nn.ModuleDict(
        {
            "fusion": MultiScaleQueryFusion(tasks, width, 32, context="mixed"),
            "distiller": SemanticTokenDistiller(tasks, width, 32),
            "decoder": SemanticDecoder(tasks, width, 32),
        }
    )
    groups = recipe(decay_all=False).parameter_groups(network)
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    by_name = dict(network.named_parameters())
    for name in (
        "fusion.blocks.0.norm.weight",
        "fusion.blocks.0.attention.context.logits",
        "fusion.blocks.0.attention.query.bias",
        "distiller.scale",
        "distiller.task_embedding",
        "decoder.blocks.0.local.position_bias",
        "decoder.blocks.0.feed_forward.norm.bias",
    ):
        assert id(by_name[name]) not in decayed, name
    for name in (
        "fusion.blocks.0.attention.query.weight",
        "distiller.mixer.qkv.weight",
        "decoder.blocks.0.gate.weigh.weight",
    ):
        assert id(by_name[name]) in decayed, name


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("vit_tiny_patch16_224", ("pos_embed", "cls_token")),
        ("swin_tiny_patch4_window7_224", ("relative_position_bias_table",)),
    ],
)
@pytest.mark.parametrize("network_class", [SharedEncoderNet, SingleTaskNet])
def test_embeddings_of_the_encoder_are_not_decayed(network_class, name, spared):
    network = network_class(TimmEncoder(name, pretrained=False), {"semseg": 3, "depth": 1}, width=32)
    groups = recipe(decay_all=False).parameter_groups(network)
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    by_name = [(name, id(p) in decayed) for name, p in network.named_parameters() if name.startswith("encoder.")]
    assert not any(is_decayed for name, is_decayed in by_name if name.endswith(spared))
    assert any(name.endswith(spared) for name, _ in by_name)
    assert all(is_decayed for name, is_decayed in by_name if name.endswith("qkv.weight"))


@pytest.mark.parametrize("factors", [{"layer_decay": 0.5}, {"decoder_lr_factor": 10.0}])
def test_learning_rates_of_parts_that_a_network_does_not_have_are_refused(factors):
    recipe(**factors).check_network(TwoBlocks())
    recipe().check_network(nn.Linear(1, 1))
    with pytest.raises(InputError, match=r"Linear has no encoder to tell from a decoder; set both to 1"):
        recipe(**factors).check_network(nn.Linear(1, 1))


@pytest.mark.parametrize("way", [{"fused": False}, {"foreach": True}, {"foreach": False}])
def test_how_the_optimiser_steps_is_left_to_its_own_settings(way):
    made = Recipe(partial(torch.optim.AdamW, **way), lr=0.1, weight_decay=0.1)
    built, _ = made.build(TwoBlocks(), 10, fused=True)
    assert not built.param_groups[0]["fused"]
    assert way.items() <= built.param_groups[0].items()
    with pytest.raises(InputError, match="differentiable=true cannot step"):
        Recipe(partial(torch.optim.AdamW, differentiable=True), lr=0.1, weight_decay=0.1).build(TwoBlocks(), 10)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adamax])
def test_fused_where_the_optimiser_can_and_the_same_steps(optimizer):
    def after_steps(fused):
        torch.manual_seed(0)
        network = TwoBlocks()
        built, _ = Recipe(partial(optimizer), lr=0.1, weight_decay=0.1).build(network, 10, fused=fused)
        assert bool(built.param_groups[0].get("fused")) == (fused and optimizer is not torch.optim.Adamax)
        for _ in range(3):
            built.zero_grad()
            network.head(network.encoder(torch.ones(5, 2))).square().sum().backward()
            built.step()
        return list(network.parameters())

    torch.testing.assert_close(after_steps(True), after_steps(False))
