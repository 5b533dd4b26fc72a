"""Preliminary decoders on one level and on several."""

import pytest
import torch
from helpers.modules import CHANNELS, randomise
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.models.preliminary import PreliminaryDecoders

WIDTH = 32
SIZES = (8, 12), (4, 6), (2, 3)


def levels(count=3):
    torch.manual_seed(0)
    return [torch.randn(2, WIDTH, *size) for size in SIZES[:count]]


def test_one_level_gives_features_and_early_predictions():
    features, (aux,) = PreliminaryDecoders(CHANNELS, WIDTH, depth=2)(levels(1), None)
    assert features.shape == (2, 3, WIDTH, *SIZES[0])
    assert {name: tuple(y.shape) for name, y in aux.items()} == {
        name: (2, channels, *SIZES[0]) for name, channels in CHANNELS.items()
    }


@pytest.mark.parametrize("supervised", [1, 2, 3])
def test_supervised_levels_predict_at_their_own_size_the_finest_first(supervised):
    decoders = PreliminaryDecoders(CHANNELS, WIDTH, levels=3, supervised=supervised)
    features, aux = decoders(levels(), None)
    assert features.shape == (2, 3, WIDTH, *SIZES[0])
    assert [tuple(own["depth"].shape[2:]) for own in aux] == list(SIZES[:supervised])


def test_each_level_adds_the_resized_features_of_the_coarser_one():
    stage = randomise(PreliminaryDecoders(CHANNELS, WIDTH, levels=3).double())
    maps = [x.double() for x in levels()]

    def doubled(x):
        return F.interpolate(x.flatten(1, 2), scale_factor=2, mode="bilinear").unflatten(1, x.shape[1:3])

    def decode(convs, x, coarser):
        y = F.gelu(convs.norm(convs.branch(x).unflatten(1, (3, WIDTH)))) + coarser
        return convs.blocks[0](y, None)

    coarsest = stage.coarser[1](maps[2], None)
    middle = decode(stage.coarser[0], maps[1], doubled(coarsest))
    expected = decode(stage.decoders, maps[0], doubled(middle))
    torch.testing.assert_close(stage(maps, None)[0], expected)


@pytest.mark.parametrize("supervised", [0, 3])
def test_more_supervised_levels_than_levels_are_refused(supervised):
    with pytest.raises(UserError, match=f"supervised={supervised} is out of range; give 1 to 2"):
        PreliminaryDecoders(CHANNELS, WIDTH, levels=2, supervised=supervised)
