"""Sizes in exported graphs stay short expressions, whatever pads the maps."""

import pytest
import timm.layers.padding
import torch
from timm.layers import create_conv2d
from torch import nn
from torch.export import Dim

from mtlsi_net.inference import export
from mtlsi_net.inference.export import _check_expressions, _constant_padding


class SamePadding(nn.Sequential):
    """Strided convolutions padded as TensorFlow does, as in EfficientNets."""

    def __init__(self, count):
        sides = [3, 5, 3]
        super().__init__(*(create_conv2d(3, 3, sides[k], stride=2, padding="same") for k in range(count)))


def traced(network):
    shapes = {"input": {2: 64 * Dim("h", min=2), 3: 64 * Dim("w", min=2)}}
    return torch.export.export(network.eval(), (torch.rand(1, 3, 192, 256),), dynamic_shapes=shapes)


def test_padding_is_constant_while_a_network_is_traced_and_computes_the_same():
    network = SamePadding(3)
    before = timm.layers.padding.get_same_padding
    with _constant_padding():
        program = traced(network)
    assert timm.layers.padding.get_same_padding is before
    _check_expressions(program)
    assert not [node for node in program.graph.nodes if "ceil" in node.name or "max" in node.name]
    for size in ((128, 192), (320, 128)):
        image = torch.rand(1, 3, *size)
        torch.testing.assert_close(program.module()(image), network(image))


def test_fixed_sizes_are_padded_as_ever():
    with _constant_padding():
        assert timm.layers.padding.get_same_padding(7, 3, 2, 1) == 2
        assert timm.layers.padding.get_same_padding(8, 3, 2, 1) == 1


def test_long_expressions_are_refused(monkeypatch):
    monkeypatch.setattr(export, "MOST_TERMS", 30)
    with pytest.raises(ValueError, match="expression of more than 30 terms"):
        _check_expressions(traced(SamePadding(2)))
