"""What is special to each method of another paper; what all networks have in common is in test_networks."""

import math
from functools import partial

import pytest
import torch
from helpers.modules import CHANNELS, PatchEncoder, randomise, without_gradient
from torch import nn
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.lit.optim import Recipe
from mtlsi_net.models.baselines.bridgenet_variant import BridgeNetVariant, TaskRefiner
from mtlsi_net.models.baselines.invpt import AttentionMessage, InvPTNet
from mtlsi_net.models.baselines.mlore import LowRankConv, LowRankMixture, MLoRENet, load_imbalance
from mtlsi_net.models.baselines.mti_net_variant import Distillation, FeaturePropagation, MTINetVariant
from mtlsi_net.models.baselines.shared_encoder import SharedEncoderNet
from mtlsi_net.models.baselines.single_task import SingleTaskNet
from mtlsi_net.models.encoder import Encoder, TimmEncoder
from mtlsi_net.models.layers.pooled_attention import PooledAttention
from mtlsi_net.models.neck import LevelNeck

NETWORKS = [SingleTaskNet, InvPTNet, MLoRENet, MTINetVariant, BridgeNetVariant]
ALL = pytest.mark.parametrize("network_class", NETWORKS)
T = len(CHANNELS)


def make(network_class, channels=CHANNELS, **options):
    torch.manual_seed(0)
    return network_class(PatchEncoder(), channels, **{"width": 64, **options}).eval()


def rectangle(*shape, rows, columns):
    valid = torch.zeros(shape, dtype=torch.bool)
    valid[..., :rows, :columns] = True
    return valid


# -- all of them ----------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("options", [{"norm": "batch"}, {"mask_padding": False}, {"stride": 16}])
def test_options_that_all_networks_have(network_class, options):
    net = make(network_class, **options).train()
    prediction = net(torch.rand(2, 3, 64, 96), rectangle(2, 1, 64, 96, rows=50, columns=70))
    assert all(y.shape[-2:] == (64, 96) and y.isfinite().all() for y in prediction.final.values())
    with pytest.raises(UserError, match="norm=instance"):
        make(network_class, norm="instance")


@ALL
def test_one_task_alone(network_class):
    net = make(network_class, {"depth": 1})
    prediction = net(torch.rand(1, 3, 64, 64))
    sum(y.square().mean() for outputs in (prediction.final, *prediction.aux) for y in outputs.values()).backward()
    assert prediction.final["depth"].shape == (1, 1, 64, 64)


class MapsOfViTL(Encoder):
    """What decoders see of a ViT-L/16."""

    parameters_m = 304.1

    def __init__(self):
        super().__init__()
        self.specs, self.mean, self.std = [FeatureSpec(1024, 16)] * 4, (0.5,) * 3, (0.5,) * 3


NYUD = {"semseg": 40, "depth": 1, "normals": 3, "boundary": 1}
PASCAL = {"semseg": 21, "human_parts": 7, "saliency": 2, "normals": 3, "boundary": 1}


@pytest.mark.parametrize(
    ("network_class", "channels", "published"),
    [(InvPTNet, NYUD, 402.1), (InvPTNet, PASCAL, 422.9), (MLoRENet, PASCAL, 407.7)],
)
def test_parameters_are_the_published_ones(network_class, channels, published):
    with torch.device("meta"):
        net = network_class(MapsOfViTL(), channels)
    decoder = sum(p.numel() for p in net.parameters()) / 1e6
    assert MapsOfViTL.parameters_m + decoder == pytest.approx(published, rel=0.02)


def test_the_vit_behind_these_counts():
    with torch.device("meta"):
        encoder = TimmEncoder("vit_large_patch16_384", pretrained=False, image_size=(448, 576))
    assert [(s.channels, s.stride) for s in encoder.specs] == [(1024, 16)] * 4
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(MapsOfViTL.parameters_m, abs=0.1)


@pytest.mark.parametrize("widths", [None, [4, 5, 6, 7]])
def test_levels_stand_at_their_strides(widths):
    encoder = PatchEncoder((8, 8, 16, 32))
    neck = LevelNeck(encoder.specs, [4, 8, 16, 16], widths)
    levels = neck(encoder(torch.rand(1, 3, 64, 96)), rectangle(1, 1, 64, 96, rows=40, columns=96))
    assert [tuple(x.shape[-2:]) for x in levels] == [(16, 24), (8, 12), (4, 6), (4, 6)]
    assert [x.shape[1] for x in levels] == (widths or [spec.channels for spec in encoder.specs])


# -- attention to pooled positions ----------------------------------------------------------------------------------


def test_attention_is_softmax_over_all_valid_positions_of_all_maps():
    layer = randomise(PooledAttention(8, 2).double())
    x, sources = torch.randn(1, 2, 8, 3, 4, dtype=torch.float64), torch.randn(1, 3, 8, 2, 2, dtype=torch.float64)
    valid = rectangle(1, 1, 2, 2, rows=1, columns=2)

    def tokens(linear, maps):
        bias = 0 if linear.bias is None else linear.bias[0]
        return maps.permute(0, 1, 3, 4, 2).flatten(0, 3) @ linear.weight[0].T + bias

    seen = sources[..., :1, :]
    q, k, v = tokens(layer.query, x), tokens(layer.key, seen), tokens(layer.value, seen)
    heads = [(q[:, h] @ k[:, h].T / math.sqrt(4)).softmax(-1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
    read = torch.cat(heads, 1).view(1, 2, 3, 4, 8).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(layer(x, sources, valid), layer.project(read))


@pytest.mark.parametrize(
    ("network_class", "options", "message"),
    [
        (InvPTNet, {"heads": 3}, "heads=3 does not divide width="),
        (InvPTNet, {"width": 66}, "cannot be halved twice"),
        (BridgeNetVariant, {"heads": 0}, "heads=0 does not divide"),
        (MLoRENet, {"top_k": 16}, "give 1 to 15"),
        (MLoRENet, {"top_k": 0}, "give 1 to 15"),
    ],
)
def test_impossible_settings_are_refused(network_class, options, message):
    with pytest.raises(UserError, match=message):
        make(network_class, **options)


# -- single task ----------------------------------------------------------------------------------------------------


def test_single_tasks_share_nothing():
    net = make(SingleTaskNet)
    image = torch.rand(1, 3, 64, 64)
    reached = []
    for name in CHANNELS:
        net.zero_grad()
        net(image).final[name].square().sum().backward()
        by_task = [
            [p.grad for part in (net.encoder.copies[i], net.necks[i], net.decoders[i]) for p in part.parameters()]
            for i in range(T)
        ]
        reached.append([any(g is not None and g.abs().max() > 0 for g in grads) for grads in by_task])
    assert reached == torch.eye(T, dtype=torch.bool).tolist()


def test_a_single_task_is_the_plain_baseline():
    net, plain = randomise(make(SingleTaskNet, {"depth": 1})), make(SharedEncoderNet, {"depth": 1})
    names = {"encoder.copies.0.": "encoder.", "necks.0.": "neck.", "decoders.0.": "decoder."}
    state = {}
    for key, value in net.state_dict().items():
        prefix = next((old for old in names if key.startswith(old)), "")
        state[names.get(prefix, "") + key.removeprefix(prefix)] = value
    plain.load_state_dict(state)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(net(image).final["depth"], plain(image).final["depth"])


def test_copies_of_an_encoder_start_alike_and_are_found_by_the_optimisers_groups():
    net = SingleTaskNet(TimmEncoder("test_vit", pretrained=False), CHANNELS, width=32)
    first, *others = (encoder.state_dict() for encoder in net.encoder.copies)
    assert all(torch.equal(other[key], value) for other in others for key, value in first.items())
    recipe = Recipe(partial(torch.optim.SGD, lr=1.0), lr=1.0, weight_decay=0.0, layer_decay=0.5, decoder_lr_factor=10)
    rates = {p: group["lr"] for group in recipe.parameter_groups(net) for p in group["params"]}
    by_copy = [[rates[p] for p in encoder.parameters()] for encoder in net.encoder.copies]
    assert by_copy[0] == by_copy[1] == by_copy[2]
    assert min(by_copy[0]) == 0.5**net.encoder.num_layers
    assert {rates[p] for p in net.head.parameters()} == {10}


# -- InvPT ----------------------------------------------------------------------------------------------------------


def gradient_of_first_task(net, module):
    """Return how the first task's output depends on each task's features behind ``module``."""
    seen = {}

    def keep(_m, _i, out):
        seen["x"] = (out[0] if isinstance(out, tuple) else out).detach().requires_grad_()
        return (seen["x"], *out[1:]) if isinstance(out, tuple) else seen["x"]

    module.register_forward_hook(keep)
    net(torch.rand(1, 3, 64, 64)).final["semseg"].square().sum().backward()
    return seen["x"].grad.abs().amax(dim=(0, 2, 3, 4)) > 0


@pytest.mark.parametrize(
    ("network_class", "module"),
    [(InvPTNet, "preliminary"), (MTINetVariant, "initial.0"), (BridgeNetVariant, "preliminary")],
)
def test_tasks_read_each_others_features(network_class, module):
    net = make(network_class)
    assert gradient_of_first_task(net, net.get_submodule(module)).all()


def test_in_mlore_tasks_meet_in_weights_alone():
    net = make(MLoRENet)
    assert gradient_of_first_task(net, net.branches[0]).tolist() == [True, False, False]


def test_attention_messages_are_the_logits_of_the_stage_before_upsampled():
    mix = AttentionMessage(2, tasks=3)
    logits, message = torch.randn(1, 2, 3 * 24, 5), torch.randn(1, 2, 3 * 6, 5)
    maps = message.view(2 * 3, 2, 3, 5).movedim(-1, 1)
    fine = F.interpolate(maps, (4, 6), mode="bilinear").movedim(1, -1).reshape(1, 2, 3 * 24, 5)
    torch.testing.assert_close(mix(logits, message, (4, 6), None), logits + 0.5 * fine)


def test_all_stages_of_invpt_read_one_coarse_grid():
    net, seen = make(InvPTNet), []
    for stage in net.stages:
        stage.register_forward_hook(lambda _m, _i, out: seen.append((tuple(out[0].shape[1:]), out[1].shape[-1])))
    net(torch.rand(1, 3, 64, 96))
    assert seen == [((3, 64, 4, 6), 18), ((3, 32, 8, 12), 18), ((3, 16, 16, 24), 18)]


# -- MLoRE ----------------------------------------------------------------------------------------------------------


def test_gated_experts_equal_one_convolution():
    layer = LowRankConv(1, 6, 5).double()
    x, gates = torch.randn(2, T, 6, 7, 8, dtype=torch.float64), torch.rand(2, T, 5, dtype=torch.float64)
    y = layer(x, None, gates)
    for b in range(2):
        for t in range(T):
            kernel = torch.einsum("or,r,rcij->ocij", layer.up.weight[0], gates[b, t], layer.down.weight[0])
            torch.testing.assert_close(y[b : b + 1, t], F.conv2d(x[b : b + 1, t], kernel, padding=1))


def test_a_task_uses_its_best_experts_only():
    module = LowRankMixture(1, 8, [1, 2, 3], top_k=1, own_rank=2)
    x = torch.randn(1, 1, 8, 4, 4)
    y, gates = module(x, None)
    best = int(gates.argmax())
    assert module.owners.tolist() == [0, 1, 1, 2, 2, 2]
    with torch.no_grad():
        module.experts.down.weight[:, module.owners != best] = 1e3
    torch.testing.assert_close(module(x, None)[0], y)
    with torch.no_grad():
        module.experts.down.weight[:, module.owners == best] = 1e3
    assert not torch.allclose(module(x, None)[0], y)


def test_balance_is_the_squared_variation_of_the_experts_load():
    assert load_imbalance(torch.full((2, T, 5), 0.2)) == pytest.approx(0)
    assert load_imbalance(torch.eye(5)[[0, 0]][:, None]) == pytest.approx(4)  # all on one of E: E - 1
    assert load_imbalance(torch.eye(5)[:, None]) == pytest.approx(0)  # in turn


def test_the_balance_reaches_all_routers_and_scales_with_its_factor():
    image = torch.rand(2, 3, 64, 64)
    small, large = (make(MLoRENet, balance=factor)(image).regularisers["balance"] for factor in (1e-4, 1e-2))
    assert large.item() == pytest.approx(100 * small.item())
    net = make(MLoRENet)
    net(image).regularisers["balance"].backward()
    routers = nn.ModuleList(mixture.router for stack in net.mixtures for mixture in stack.mixtures)
    assert without_gradient(routers) == []


# -- MTI-Net --------------------------------------------------------------------------------------------------------


def test_distillation_is_a_sum_over_all_other_tasks():
    layer = randomise(Distillation(T, 4).double())
    x = torch.randn(2, T, 4, 3, 5, dtype=torch.float64)
    attend, message = (linear(x).unflatten(2, (T - 1, 4)) for linear in (layer.attend, layer.message))
    y = layer(x)
    for t in range(T):
        expected = x[:, t].clone()
        for s in range(T):
            if s != t:
                slot = [other for other in range(T) if other != s].index(t)
                expected += attend[:, s, slot].sigmoid() * message[:, s, slot]
        torch.testing.assert_close(y[:, t], expected)


def test_propagation_adds_gated_channels_of_what_tasks_have_in_common():
    layer = FeaturePropagation(T, 8)
    x = torch.randn(1, T, 8, 4, 4)
    added = layer(x, None) - x
    ratio = added[:, :1] / added  # one common map, weighed per task and channel
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio), rtol=1e-2, atol=1e-3)


# -- BridgeNet ------------------------------------------------------------------------------------------------------


def test_refiners_keep_tasks_apart():
    refiner = randomise(TaskRefiner(T, 8))
    x, bridge = torch.randn(1, T, 8, 4, 4, requires_grad=True), torch.randn(1, 1, 8, 4, 4, requires_grad=True)
    refiner(x, bridge, None)[:, 0].square().sum().backward()
    assert (x.grad.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [True, False, False]
    assert bridge.grad.abs().max() > 0
