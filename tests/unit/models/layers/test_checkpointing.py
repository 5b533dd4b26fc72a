import copy

import pytest
import torch
from helpers.miniature import compose_config
from helpers.modules import MODELS
from torch.autograd.graph import saved_tensors_hooks

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.models.encoder import TimmEncoder

VIT = ("backbone.name=test_vit", "backbone.drop_path_rate=0.5")


def build(model, *overrides):
    sizes = ("model.width=32", "model.head_dim=32") if model.startswith("mtlsi") else ("model.width=32",)
    cfg = compose_config("data=nyud", f"model={model}", *sizes, *overrides)
    torch.manual_seed(0)
    return build_network(cfg, build_tasks(cfg))


def train_once(network, images=2):
    """Run forward and backward; return the number of values that were saved in between."""
    saved = {}

    def keep(x):
        saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(1)
    valid = torch.ones(images, 1, 64, 96, dtype=torch.bool)
    valid[0, ..., 80:] = False
    kept = {p.untyped_storage().data_ptr() for p in network.parameters()}
    with saved_tensors_hooks(keep, lambda x: x):
        prediction = network.train()(torch.rand(images, 3, 64, 96), valid)
        outputs = [*prediction.final.values(), *(y for aux in prediction.aux for y in aux.values())]
        total = sum(y.square().mean() for y in (*outputs, *prediction.regularisers.values()))
    total.backward()
    return sum(size for pointer, size in saved.items() if pointer not in kept)


def assert_same(plain, recomputed):
    gradients = dict(plain.named_parameters())
    for name, parameter in recomputed.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, msg=name)
    buffers = dict(plain.named_buffers())
    for name, buffer in recomputed.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], msg=name)


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_of_kept_activations_with_less_kept(model):
    plain, recomputed = build(model, *VIT), build(model, *VIT, "activation_checkpointing=true")
    assert list(plain.state_dict()) == list(recomputed.state_dict())
    kept, less = train_once(plain), train_once(recomputed)
    assert less < 0.6 * kept
    assert_same(plain, recomputed)


def test_paths_were_dropped_in_the_comparison():
    dropping, whole = build("mtlsi", *VIT), build("mtlsi", VIT[0])
    train_once(dropping)
    train_once(whole)
    grads = (network.encoder.body.patch_embed.proj.weight.grad for network in (dropping, whole))
    assert not torch.allclose(*grads)


@pytest.mark.parametrize("backbone", ["resnet18", "tiny"])
def test_statistics_of_batches_are_counted_once(backbone):
    overrides = (f"backbone={backbone}", "backbone.pretrained=false", "model.norm=batch")
    plain, recomputed = build("mtlsi", *overrides), build("mtlsi", *overrides, "activation_checkpointing=true")
    for momentum in (0.1, 0.02):  # NormStatistics changes it
        for network in (plain, recomputed):
            norms = [m for m in network.modules() if hasattr(m, "momentum")]
            for norm in norms:
                norm.momentum = momentum
            train_once(network)
            assert {norm.momentum for norm in norms} == {momentum}
    assert_same(plain, recomputed)


def test_nothing_is_computed_again_without_gradients_and_copies_stand_alone():
    network = build("mtlsi", *VIT, "activation_checkpointing=true").train()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 64))
    train_once(twin)
    assert all(p.grad is None for p in network.parameters())
    assert all(p.grad is not None for p in twin.parameters())


def test_a_network_that_cannot_says_so(monkeypatch):
    cfg = compose_config("model=external", "model.target=helpers.peer.Peer", "activation_checkpointing=true")
    with pytest.raises(UserError, match="activation_checkpointing=true: ExternalNetwork does not support"):
        build_network(cfg, build_tasks(cfg))
    encoder = TimmEncoder("test_vit", pretrained=False)
    monkeypatch.setattr(type(encoder.body), "set_grad_checkpointing", lambda *_: (_ for _ in ()).throw(AssertionError))
    with pytest.raises(UserError, match="timm's VisionTransformer does not support"):
        encoder.checkpoint_activations()
