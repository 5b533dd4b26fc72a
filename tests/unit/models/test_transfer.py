"""Transfer of weights: tasks by name, position embeddings by interpolation, layers that relate tasks, prefixes."""

import pytest
import torch
from helpers.miniature import compose_config

import mtlsi_net
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.engine.init_from import labels_of
from mtlsi_net.models.transfer import Weights, transfer_weights

SMALL = ("data=nyud", "data.size=[48,64]", "backbone=tiny", "backbone.name=test_convnext", "model.width=32")


def network_of(seed, *options):
    cfg = compose_config(*SMALL, "model.head_dim=32", *options)
    torch.manual_seed(seed)
    tasks = build_tasks(cfg)
    return build_network(cfg, tasks), tasks


def weights_of(network, tasks, **more):
    state = {f"network.{key}": value.clone() for key, value in network.state_dict().items()}
    return Weights(state, "SOURCE", tuple(tasks), tuple(tasks), labels_of(tasks), **more)


ALONE = "model.preliminary.feedback=none"
"""Without the layers that read the predictions of all tasks."""


def test_tasks_in_another_order_get_their_own_weights():
    there, theirs = network_of(0, "~tasks.boundary", "~tasks.normals", ALONE)
    here, ours = network_of(1, "~tasks.boundary", "~tasks.semseg", ALONE)
    done = transfer_weights(here, weights_of(there, theirs), labels_of(ours))
    key = "decoder.blocks.0.local.qkv.weight"
    assert torch.equal(here.state_dict()[key][list(ours).index("depth")], there.state_dict()[key][1])
    assert done.fresh == ("all layers (normals)",)
    assert any("semseg" in layer for layer in done.unused)


def test_a_task_of_another_class_is_another_task():
    there, theirs = network_of(0, ALONE)
    here, ours = network_of(1, ALONE)
    labels = labels_of(ours) | {"depth": ("my_tasks.Depth", None)}
    assert transfer_weights(here, weights_of(there, theirs), labels).fresh == ("all layers (depth)",)


def test_layers_between_tasks_start_fresh_unless_the_tasks_are_the_same():
    options = ("model.fusion.context=mixed",)
    there, theirs = network_of(0, *options)
    here, ours = network_of(1, *options)
    assert transfer_weights(here, weights_of(there, theirs), labels_of(ours)).fresh == ()
    fewer, kept = network_of(1, *options, "~tasks.depth")
    fresh = transfer_weights(fewer, weights_of(there, theirs), labels_of(kept)).fresh
    assert "fusion.blocks.0.attention.context" in fresh
    assert any(layer.startswith("preliminary.feedback") for layer in fresh)


def test_position_embeddings_are_interpolated_from_the_size_that_they_were_made_for():
    vit = ("backbone.name=test_vit", "data.size=[64,128]")
    there, theirs = network_of(0, *vit)
    here, ours = network_of(1, *vit[:1], "data.size=[128,64]")  # as many positions, otherwise arranged
    key = "encoder.body.pos_embed"
    done = transfer_weights(here, weights_of(there, theirs, size=(64, 128)), labels_of(ours))
    assert done.resized == (key,)
    assert done.fresh == ()
    assert not torch.equal(here.state_dict()[key], there.state_dict()[key])


def test_from_python_the_lists_come_back(tmp_path):
    there, _ = network_of(0)
    here, tasks = network_of(1)
    torch.save({f"module.{key}": value for key, value in there.state_dict().items()}, tmp_path / "weights.pth")
    done = mtlsi_net.init_from(here, tmp_path / "weights.pth", tasks)
    assert (done.fresh, done.unused, done.loaded) == ((), (), done.parameters)
    assert all(torch.equal(value, there.state_dict()[key]) for key, value in here.state_dict().items())
    with pytest.raises(mtlsi_net.InputError, match="does not exist"):
        mtlsi_net.init_from(here, "nowhere.pth")
