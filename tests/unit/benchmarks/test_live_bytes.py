import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mtlsi_net.benchmarks.live_bytes import LiveBytes, count_step
from mtlsi_net.core.types import Prediction
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.lit.optim import Recipe
from mtlsi_net.lit.weighting import FixedWeights

PIXELS = 2 * 64 * 64
"""Of a batch."""


class MeanSquare:
    def loss(self, output, target):
        return (output - target).square().mean()


class Two(nn.Module):
    """Two 1x1 convolutions without bias: the second one's gradient needs what is between them, 8 values a pixel."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 1, 1, bias=False)

    def forward(self, image, _):
        return Prediction({"depth": self.second(self.first(image))})


def count(optimizer, dtype=None):
    module = MultiTaskModule(
        Two(), {"depth": MeanSquare()}, FixedWeights(["depth"]), Recipe(optimizer, lr=0.1, weight_decay=0.0), {}, {}
    )
    batch = {"image": torch.rand(2, 3, 64, 64), "valid": None, "targets": {"depth": torch.rand(2, 1, 64, 64)}}
    batch["valid"] = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    return count_step(module, batch, dtype)


@pytest.mark.parametrize(
    ("optimizer", "kept"),
    [(torch.optim.SGD, 0), (torch.optim.Adam, 2), (lambda groups: torch.optim.SGD(groups, momentum=0.9), 1)],
)
def test_a_network_of_two_layers_is_counted_by_hand(optimizer, kept):
    counted = count(optimizer)
    parameters = 4 * (3 * 8 + 8)
    assert counted.parameters == counted.gradients == parameters
    assert counted.optimiser == kept * parameters
    image, between, error = (4 * PIXELS * values for values in (3, 8, 1))
    factor = counted.buffers  # of the task in the sum
    assert counted.saved == image + between + error + factor == image + between + error + 4
    assert between + 2 * error < counted.working < 2 * between + 4 * error + parameters
    assert counted.peak == counted.parameters + counted.optimiser + counted.working + factor


def test_bfloat16_halves_what_is_between():
    full, half = count(torch.optim.SGD), count(torch.optim.SGD, torch.bfloat16)
    assert half.saved < full.saved
    assert half.parameters == full.parameters


def test_storages_live_until_they_are_freed_and_views_are_none():
    with FakeTensorMode(), LiveBytes() as live:
        a = torch.ones(1000)
        b = a.view(10, 100).T
        assert live.now == 4000
        c = a + 1
        assert live.now == 8000
        del c
        assert (live.now, live.peak) == (4000, 8000)
        del a
        assert live.now == 4000, b.shape
        del b
        assert live.now == 0
