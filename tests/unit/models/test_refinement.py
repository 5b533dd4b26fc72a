"""Refinement of task features by the encoder's finest map or by the image."""

import pytest
import torch
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import FeatureSpec
from mtlsi_net.models.encoder import TimmEncoder
from mtlsi_net.models.mtlsi import MTLSINet
from mtlsi_net.models.refinement import DetailRefinement, EncoderDetail, ImageDetail, NoRefinement

PYRAMID = [FeatureSpec(6, 4), FeatureSpec(8, 8)]
PLAIN = [FeatureSpec(16, 16)] * 2
T, WIDTH = 3, 8
CANVAS = 32, 64


def inputs(specs):
    torch.manual_seed(0)
    features, image = torch.randn(2, T, WIDTH, 4, 8), torch.randn(2, 3, *CANVAS)
    return features, image, [torch.randn(2, s.channels, CANVAS[0] // s.stride, CANVAS[1] // s.stride) for s in specs]


def test_features_are_doubled_and_get_the_encoders_map():
    stage, (x, image, maps) = DetailRefinement(PYRAMID, T, WIDTH, 8), inputs(PYRAMID)
    assert isinstance(stage.detail, EncoderDetail)
    doubled = F.interpolate(x.flatten(1, 2), scale_factor=2, mode="bilinear")
    expected = doubled + F.conv2d(stage.detail.norm(maps[0]), stage.read.weight)
    torch.testing.assert_close(stage(x, image, maps, None), expected.unflatten(1, (T, WIDTH)))


def test_a_plain_transformer_gets_detail_from_the_image():
    stage, (x, image, maps) = DetailRefinement(PLAIN, T, WIDTH, 8, fine_width=4), inputs(PLAIN)
    assert isinstance(stage.detail, ImageDetail)
    refined = stage(x, image, maps, None)
    assert refined.shape == (2, T, 4, 8, 16)
    image[..., 0, 0] += 5
    changed = (stage(x, image, maps, None) != refined).flatten(0, 2).any(0).nonzero()
    assert len(changed)
    assert changed.max() <= 1  # only near that pixel


@pytest.mark.parametrize("specs", [PYRAMID, PLAIN])
def test_padding_changes_nothing_at_valid_positions(specs):
    stage, (x, image, maps) = DetailRefinement(specs, T, WIDTH, 8), inputs(specs)
    valid = torch.zeros(2, 1, *CANVAS, dtype=torch.bool)
    valid[..., :16, :32] = True
    before = stage(x, image, maps, valid)
    x[..., 2:, :], x[..., 4:] = 9, 9
    image[..., 16:, :], image[..., 32:] = 9, 9
    for m, spec in zip(maps, specs, strict=True):
        m[..., 16 // spec.stride :, :], m[..., 32 // spec.stride :] = 9, 9
    after = stage(x, image, maps, valid)
    torch.testing.assert_close(before[..., :4, :8], after[..., :4, :8])


def test_an_encoder_without_such_a_map_is_refused_with_what_to_set():
    with pytest.raises(UserError, match=r"stride 4, but the finest of this backbone has stride 16; set .*detail=image"):
        DetailRefinement(PLAIN, T, WIDTH, 8, detail="encoder")
    with pytest.raises(UserError, match="detail=map is not known"):
        DetailRefinement(PLAIN, T, WIDTH, 8, detail="map")


@pytest.mark.parametrize("stride", [2, 6])
def test_the_image_gives_detail_of_strides_that_are_powers_of_two(stride):
    with pytest.raises(UserError, match=f"detail=image gives strides 2, 4, 8, ..., not {stride // 2}"):
        DetailRefinement(PLAIN, T, WIDTH, stride)


def test_without_refinement_nothing_changes():
    x, image, maps = inputs(PYRAMID)
    assert NoRefinement(PYRAMID, T, WIDTH, 8)(x, image, maps, None) is x


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit"])
def test_a_network_decodes_at_twice_the_working_grid(backbone):
    network = MTLSINet(
        TimmEncoder(backbone, pretrained=False),
        {"semseg": 5, "depth": 1},
        width=64,
        head_dim=32,
        refinement=lambda **sizes: DetailRefinement(fine_width=32, **sizes),
    )
    seen = []
    network.decoder.register_forward_pre_hook(lambda _, args: seen.extend(args))
    network(torch.rand(1, 3, 64, 96))
    assert (network.stride, network.decoder_stride) == (8, 4)
    features, tokens, _ = seen
    assert (features.shape[2:], tokens.shape[-1]) == ((32, 16, 24), 64)
