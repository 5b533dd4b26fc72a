"""Levels that necks make of an encoder's maps."""

from functools import partial

import pytest
import torch
from helpers.modules import PatchEncoder
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.mtlsi import MTLSINet
from mtlsi_net.models.neck import CoarseToFineNeck, PyramidNeck

PYRAMID = [FeatureSpec(6, 4), FeatureSpec(8, 8), FeatureSpec(10, 16), FeatureSpec(12, 32)]
PLAIN = [FeatureSpec(16, 16)] * 4
CANVAS = 64, 96


def maps(specs):
    torch.manual_seed(0)
    return [torch.randn(2, spec.channels, CANVAS[0] // spec.stride, CANVAS[1] // spec.stride) for spec in specs]


@pytest.mark.parametrize("specs", [PYRAMID, PLAIN])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_levels_double_in_stride_whatever_the_encoder(specs, count):
    neck = CoarseToFineNeck(specs, 16, 8, levels=count)
    made = neck(maps(specs), None)
    assert neck.level_strides == [8 * 2**i for i in range(count)]
    assert [tuple(x.shape) for x in made] == [(2, 16, CANVAS[0] // s, CANVAS[1] // s) for s in neck.level_strides]


def test_the_finest_level_reads_all_maps_that_coarser_ones_leave():
    neck, inputs = CoarseToFineNeck(PYRAMID, 16, 8, levels=3), maps(PYRAMID)
    parts = [project(norm(x)) for project, norm, x in zip(neck.projections, neck.norms, inputs, strict=True)]
    fine, middle, coarse = neck(inputs, None)
    torch.testing.assert_close(coarse, parts[3])
    torch.testing.assert_close(middle, parts[2])
    torch.testing.assert_close(fine, F.interpolate(parts[0], scale_factor=0.5, mode="bilinear") + parts[1])


def test_deeper_blocks_of_a_plain_transformer_give_coarser_levels():
    neck, inputs = CoarseToFineNeck(PLAIN, 16, 8, levels=3), maps(PLAIN)
    before = neck(inputs, None)
    inputs[3] = inputs[3] + 1
    inputs[3][:, 0] += 1
    after = neck(inputs, None)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False]


def test_padding_does_not_reach_valid_positions_of_any_level():
    neck, inputs = CoarseToFineNeck(PYRAMID, 16, 8).double(), [x.double() for x in maps(PYRAMID)]
    valid = torch.zeros(2, 1, *CANVAS, dtype=torch.bool)
    valid[..., :32, :64] = True
    before = neck(inputs, valid)
    for x, spec in zip(inputs, PYRAMID, strict=True):
        x[..., 32 // spec.stride :, :] = 7
        x[..., 64 // spec.stride :] = 7
    for a, b, stride in zip(before, neck(inputs, valid), neck.level_strides, strict=True):
        torch.testing.assert_close(a[..., : 32 // stride, : 64 // stride], b[..., : 32 // stride, : 64 // stride])


def test_the_last_map_gives_all_levels_that_are_coarser():
    neck, inputs = CoarseToFineNeck(PYRAMID[:2], 16, 4, levels=4), maps(PYRAMID[:2])
    made = neck(inputs, None)
    assert neck.level_strides == [4, 8, 16, 32]
    assert [tuple(x.shape[2:]) for x in made] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    inputs[1] += torch.arange(8)[:, None, None]
    assert [torch.equal(a, b) for a, b in zip(made, neck(inputs, None), strict=True)] == [True, False, False, False]


def test_no_level_is_refused():
    with pytest.raises(UserError, match="levels=0 is too small"):
        CoarseToFineNeck(PYRAMID, 16, 8, levels=0)


def test_the_pyramid_neck_has_one_level():
    neck = PyramidNeck(PYRAMID, 16, 8)
    (shared,) = neck(maps(PYRAMID), None)
    assert (neck.level_strides, tuple(shared.shape)) == ([8], (2, 16, 8, 12))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_network_has_preliminary_decoders_for_the_levels_of_its_neck(count):
    neck = partial(CoarseToFineNeck, levels=count)
    network = MTLSINet(PatchEncoder(), {"depth": 1}, width=64, neck=neck)
    with torch.no_grad():
        prediction = network.eval()(torch.rand(1, 3, *CANVAS))
    assert prediction.final["depth"].shape == (1, 1, *CANVAS)
