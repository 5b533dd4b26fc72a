import pytest
import torch
from helpers.modules import CHANNELS, PatchEncoder, randomise, without_gradient

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.baselines.bridgenet_variant import BridgeNetVariant
from mtlsi_net.models.baselines.invpt import InvPTNet
from mtlsi_net.models.baselines.mlore import MLoRENet
from mtlsi_net.models.baselines.mti_net_variant import MTINetVariant
from mtlsi_net.models.baselines.shared_encoder import SharedEncoderNet
from mtlsi_net.models.baselines.single_task import SingleTaskNet
from mtlsi_net.models.encoder import TimmEncoder
from mtlsi_net.models.mtlsi import MTLSINet

AUX_STRIDES = {
    MTLSINet: [8, 8],
    SharedEncoderNet: [],
    SingleTaskNet: [],
    InvPTNet: [16],
    MLoRENet: [],
    MTINetVariant: [32, 16, 8, 4],
    BridgeNetVariant: [16],
}
"""Of the sets of preliminary predictions of each network at its default stride."""
ALL = pytest.mark.parametrize("network_class", list(AUX_STRIDES))


def make(network_class, dtype=torch.float32, **options):
    torch.manual_seed(0)
    return network_class(PatchEncoder(), CHANNELS, width=64, **options).to(dtype).eval()


def everything(prediction):
    return {
        **{f"{k}.final": v for k, v in prediction.final.items()},
        **{f"{k}.aux.{i}": v for i, outputs in enumerate(prediction.aux) for k, v in outputs.items()},
    }


def total(prediction):
    # Weights that do not add up to 0: the gradient of a bias is their sum.
    return sum((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum() for y in everything(prediction).values())


@ALL
@pytest.mark.parametrize("size", [(64, 96), (45, 61), (7, 9), (112, 144)])
def test_any_image_size_gives_outputs_of_that_size(network_class, size):
    with torch.no_grad():
        prediction = make(network_class)(torch.rand(1, 3, *size))
    expected = {f"{name}.final": (1, channels, *size) for name, channels in CHANNELS.items()}
    for i, stride in enumerate(AUX_STRIDES[network_class]):
        grid = -(-size[0] // stride), -(-size[1] // stride)
        expected |= {f"{name}.aux.{i}": (1, channels, *grid) for name, channels in CHANNELS.items()}
        assert stride in make(network_class).aux_strides
    assert {key: y.shape for key, y in everything(prediction).items()} == expected
    assert all(y.isfinite().all() for y in everything(prediction).values())


@ALL
@pytest.mark.parametrize("mask", [None, (64, 96), (61, 70)])
def test_gradients_reach_every_parameter(network_class, mask):
    net = make(network_class)
    valid = None
    if mask is not None:
        valid = torch.zeros(2, 1, 64, 96, dtype=torch.bool)
        valid[..., : mask[0], : mask[1]] = True
    total(net(torch.rand(2, 3, 64, 96), valid)).backward()
    assert without_gradient(net) == []


@ALL
@pytest.mark.parametrize("corner", [(0, 0), (64, 64)])
def test_more_padding_changes_nothing_at_valid_pixels(network_class, corner):
    net = randomise(make(network_class, torch.float64))
    image = torch.rand(2, 3, 96, 64, dtype=torch.float64)
    canvas = torch.rand(2, 3, 192, 160, dtype=torch.float64)
    valid = torch.zeros(2, 1, 192, 160, dtype=torch.bool)
    inside = (..., slice(corner[0], corner[0] + 96), slice(corner[1], corner[1] + 64))
    canvas[inside], valid[inside] = image, True
    with torch.no_grad():
        alone, padded = net(image), net(canvas, valid)
        other_padding = net(torch.where(valid, canvas, 5.0), valid)
        unmasked = net(canvas)
    for key, expected in everything(alone).items():
        stride = AUX_STRIDES[network_class][int(key.split(".")[-1])] if ".aux." in key else 1
        region = (..., *(slice(s.start // stride, s.stop // stride) for s in inside[1:]))
        torch.testing.assert_close(everything(padded)[key][region], expected)
        torch.testing.assert_close(everything(other_padding)[key][region], expected)
        assert not torch.allclose(everything(unmasked)[key][region], expected)


def test_without_masking_padding_is_image():
    net = make(MTLSINet, mask_padding=False)
    image, valid = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    valid[..., :32] = True
    with torch.no_grad():
        assert torch.equal(net(image, valid).final["depth"], net(image).final["depth"])


@ALL
def test_an_image_of_padding_alone_stays_finite(network_class):
    net = make(network_class)
    prediction = net(torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64, dtype=torch.bool))
    total(prediction).backward()
    assert all(y.isfinite().all() for y in everything(prediction).values())
    assert all(p.grad.isfinite().all() for p in net.parameters())


@ALL
def test_images_of_a_batch_do_not_mix(network_class):
    net = make(network_class, torch.float64)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        together, alone = net(images), net(images[1:])
    for key, y in everything(alone).items():
        torch.testing.assert_close(everything(together)[key][1:], y)


def jacobian_of_first_task(network_class):
    """Return how the first task's output depends on each task's own features after the neck."""
    net = make(network_class)
    seen = {}
    stage = net.preliminary.decoders if network_class is MTLSINet else net.decoder
    stage.register_forward_hook(lambda _m, _i, features: seen.setdefault("x", features.detach().requires_grad_()))
    net(torch.rand(1, 3, 64, 64)).final["semseg"].square().sum().backward()
    return seen["x"].grad.abs().amax(dim=(0, 2, 3, 4))


def test_tasks_interact_in_mtlsi_and_not_in_the_baseline():
    assert (jacobian_of_first_task(MTLSINet) > 0).tolist() == [True, True, True]
    assert (jacobian_of_first_task(SharedEncoderNet) > 0).tolist() == [True, False, False]


@ALL
def test_bfloat16_autocast_is_close_to_float32(network_class):
    net = make(network_class)
    image = torch.rand(2, 3, 64, 96)
    expected = everything(net(image))
    with torch.autocast("cpu", torch.bfloat16):
        prediction = net(image)
    for key, y in everything(prediction).items():
        assert (y.float() - expected[key]).norm() < 0.05 * expected[key].norm()
    total(prediction).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@ALL
def test_priors_reach_every_prediction(network_class):
    net = make(network_class)
    priors = {name: torch.full((k,), 3.0) + torch.arange(k) for name, k in CHANNELS.items()}
    net.set_priors(priors)
    with torch.no_grad():
        prediction = net(torch.rand(1, 3, 64, 64))
    for outputs in (prediction.final, *prediction.aux):
        for name, y in outputs.items():
            assert (y.mean(dim=(0, 2, 3)) - priors[name]).abs().max() < 0.3
    with pytest.raises(UserError, match="priors are for"):
        net.set_priors({"depth": torch.zeros(1)})


def test_images_are_normalised_by_the_encoders_statistics():
    net = make(MTLSINet)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (net.encoder.mean, net.encoder.std))
    seen = []
    net.encoder.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    image = torch.rand(1, 3, 40, 64)
    net(image)
    torch.testing.assert_close(seen[0][..., :40, :64], (image - mean) / std)
    assert seen[0].shape == (1, 3, 64, 64)
    assert seen[0][..., 40:, :].abs().max() == 0
    assert {"canvas.mean", "canvas.std"} <= set(net.state_dict())


@ALL
def test_a_checkpoint_restores_the_network(network_class):
    net, other = randomise(make(network_class)), make(network_class)
    other.load_state_dict(net.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(image).final["depth"], other(image).final["depth"])


@ALL
def test_one_step_of_training_lowers_the_loss(network_class):
    net = make(network_class).train()
    image, wanted = torch.rand(2, 3, 64, 64), {k: torch.rand(2, c, 64, 64) for k, c in CHANNELS.items()}

    def loss():
        return sum((y - wanted[k]).square().mean() for k, y in net(image).final.items())

    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    before = loss()
    before.backward()
    optimizer.step()
    assert loss() < before


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "vit_tiny_patch16_384"])
def test_real_encoders_fit(name):
    net = MTLSINet(TimmEncoder(name, pretrained=False), CHANNELS, width=32, head_dim=32)
    prediction = net(torch.rand(1, 3, 225, 301))
    assert prediction.final["semseg"].shape == (1, 5, 225, 301)
    total(prediction).backward()
    assert without_gradient(net) == []


@pytest.mark.parametrize("stride", [4, 16])
def test_other_working_strides(stride):
    net = make(MTLSINet, stride=stride)
    prediction = net(torch.rand(1, 3, 64, 96))
    assert prediction.aux[0]["depth"].shape == (1, 1, 64 // stride, 96 // stride)
    assert prediction.final["depth"].shape == (1, 1, 64, 96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 100}, "not a multiple"),
        ({"width": 64, "head_dim": 16}, "too small"),
        ({"width": 64, "stride": 0}, "stride=0"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MTLSINet(PatchEncoder(), CHANNELS, **options)


@pytest.mark.parametrize("channels", [{}, {"depth": 0}])
def test_tasks_without_channels_are_refused(channels):
    with pytest.raises(UserError, match="at least one task"):
        MTLSINet(PatchEncoder(), channels, width=64)


@pytest.mark.parametrize(
    ("image", "valid", "message"),
    [
        ((3, 64, 64), None, "image has shape"),
        ((1, 4, 64, 64), None, "image has shape"),
        ((1, 3, 64, 64), (1, 1, 64, 32), "valid has shape"),
        ((1, 3, 64, 64), (1, 64, 64), "valid has shape"),
    ],
)
def test_wrong_inputs_are_refused(image, valid, message):
    mask = None if valid is None else torch.ones(valid, dtype=torch.bool)
    with pytest.raises(UserError, match=message):
        make(MTLSINet)(torch.rand(image), mask)


@ALL
@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("kept", [["normals"], ["semseg", "normals"]])
def test_fewer_tasks_predict_the_same_with_fewer_parameters(network_class, norm, kept):
    net = randomise(make(network_class, torch.float64, norm=norm))
    if norm == "batch":
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean)
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
    image = torch.rand(2, 3, 45, 61, dtype=torch.float64)
    valid = torch.ones(2, 1, 45, 61, dtype=torch.bool)
    valid[1, ..., 50:] = False
    with torch.no_grad():
        whole, before = net(image, valid).final, sum(p.numel() for p in net.parameters())
        net.keep_tasks(kept)
        cut, after = net(image, valid).final, sum(p.numel() for p in net.parameters())
    assert list(cut) == kept
    assert net.task_names == tuple(kept)
    assert after < before
    for name in kept:
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-6, atol=1e-6)
