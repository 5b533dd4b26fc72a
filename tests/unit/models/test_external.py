import math

import pytest
import torch
from helpers.miniature import compose_config
from helpers.peer import CHANNELS, Peer
from hydra.utils import instantiate
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.models.external import ExternalNetwork
from mtlsi_net.models.size import measure_size


def external(target="Peer", **options):
    return ExternalNetwork(CHANNELS, target=f"helpers.peer.{target}", **options).eval()


def error_of(**options):
    with pytest.raises(UserError) as caught:
        external(**options)(torch.rand(2, 3, 16, 24))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_small_maps_reach_the_images_size():
    network, image = external(options={"width": 4}), torch.rand(2, 3, 45, 61)
    prediction = network(image, torch.ones(2, 1, 45, 61, dtype=torch.bool))
    assert prediction.aux == []
    assert tuple(prediction.final) == network.task_names == tuple(CHANNELS)
    for name, small in network.model(image).items():
        assert small.shape[-2:] == (5, 7)
        expected = F.interpolate(small, (45, 61), mode="bilinear", align_corners=False)
        assert torch.equal(prediction.final[name], expected)


def test_a_function_makes_one_too():
    assert external("make", options={"width": 4}).model.trunk.out_channels == 4


def test_it_takes_plain_colours_or_normalised_ones():
    image = torch.rand(1, 3, 16, 16)
    plain, imagenet, own = (
        external(),
        external(normalize=True),
        external(normalize=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    )
    for network in (plain, imagenet, own):
        network(image)
    assert torch.equal(plain.model.seen[0], image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(imagenet.model.seen[0], (image - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(own.model.seen[0], image * 2 - 1)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("list", "returned a list; return a dictionary: semseg (40 channels), depth (1 channels), normals"),
        ("missing", "its output is missing normals, boundary; expected exactly semseg (40 channels)"),
        ("extra", "its output has unexpected flow; expected exactly"),
        ("channels", "normals has shape (2, 1, 4, 4); expected (2, 3, h, w) floats, at most 16x24"),
        ("size", "depth has shape (2, 1, 512, 512); expected"),
        ("flat", "depth has shape (2, 4, 4); expected (2, 1, h, w)"),
        ("classes", "semseg is torch.int64; expected (2, 40, h, w) floats, at most 16x24, raw outputs"),
        ("nested", "semseg is list; expected"),
    ],
)
def test_other_outputs_are_refused_by_name(kind, message):
    assert message in error_of(target="Strange", options={"kind": kind})
    with pytest.raises(UserError):  # when sizes are counted, at the beginning of a run
        measure_size(external("Strange", options={"kind": kind}), (16, 24))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "Missing"}, "target=helpers.peer.Missing cannot be imported (module 'helpers.peer' has no"),
        ({"target": "NOT_CALLABLE"}, "is a int; give a class or a function"),
        ({"target": "no_module"}, "returned a int; it must return a torch.nn.Module"),
        ({"options": {"depth": 3}}, "options={'depth': 3} do not fit helpers.peer.Peer: got an unexpected"),
        (
            {"target": "Strange"},
            "options={} do not fit helpers.peer.Strange: missing a required argument: 'kind'",
        ),
    ],
)
def test_targets_that_cannot_be_used_are_refused_by_name(options, message):
    assert message in error_of(**options)


@pytest.mark.parametrize("target", ["no.such.module", "Peer"])
def test_a_target_that_is_nowhere_is_refused(target):
    with pytest.raises(UserError, match=rf"target={target} cannot be imported .*PYTHONPATH"):
        ExternalNetwork(CHANNELS, target=target)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_weights_come_from_a_file(tmp_path, wrap):
    peer = Peer()
    torch.save(wrap(peer.state_dict()), tmp_path / "peer.pth")
    loaded = external(weights_file=str(tmp_path / "peer.pth")).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in peer.state_dict().items())


def test_weights_must_fit_completely(tmp_path):
    state = Peer().state_dict()
    state.pop("trunk.bias")
    torch.save(state, tmp_path / "peer.pth")
    message = error_of(weights_file=tmp_path / "peer.pth")
    assert f"weights_file={tmp_path / 'peer.pth'} does not fit helpers.peer.Peer" in message
    assert "trunk.bias" in message
    assert "weights_file=nowhere.pth does not exist" in error_of(weights_file="nowhere.pth")


def test_sizes_are_totals_for_its_parts_are_not_known():
    size = measure_size(external(), (64, 96))
    assert size["parameters_m"] == pytest.approx(sum(p.numel() for p in Peer().parameters()) / 1e6)
    assert size["gflop"] == pytest.approx(2 * 8 * 12 * 8 * (3 * 64 + 45) / 1e9)
    assert all(
        math.isnan(size[f"{part}_{what}"]) for part in ("encoder", "decoder") for what in ("gflop", "parameters_m")
    )


def test_where_operations_cannot_be_counted_a_run_goes_on(caplog):
    size = measure_size(external("LooksAtValues"), (64, 96))
    assert math.isnan(size["gflop"])
    assert size["parameters_m"] > 0
    assert "cannot count operations" in caplog.text


def test_its_configuration_names_every_option():
    cfg = compose_config("model=external", "model.target=helpers.peer.make", "model.options={width: 4}")
    network = instantiate(cfg.model, _convert_="all")(task_channels=CHANNELS)
    assert network.model.trunk.out_channels == 4
    assert build_network(cfg, build_tasks(cfg)).model.trunk.out_channels == 4
