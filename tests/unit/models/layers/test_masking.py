import pytest
import torch
from torch.nn import functional as F

from mtlsi_net.models.layers.masking import (
    align,
    masked_mean,
    masked_pool,
    masked_resize,
    pad_to_multiple,
    resize_valid,
    valid_at,
    zero_invalid,
)


def test_padding_reaches_the_next_multiple_and_not_beyond():
    x = torch.ones(1, 2, 13, 16)
    padded = pad_to_multiple(x, 8)
    assert padded.shape == (1, 2, 16, 16)
    assert padded.sum() == x.sum()
    assert pad_to_multiple(padded, 8) is padded
    assert pad_to_multiple(torch.ones(1, 1, 3, 3, dtype=torch.bool), 4).dtype == torch.bool


def test_a_cell_is_valid_if_any_of_its_pixels_is():
    valid = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    valid[..., :5, :3] = True
    assert resize_valid(valid, (2, 2)).tolist() == [[[[True, False], [True, False]]]]
    assert torch.equal(resize_valid(resize_valid(valid, (2, 2)), (4, 4))[0, 0, :, 0], torch.ones(4, dtype=torch.bool))


def test_zeroing_touches_padding_alone():
    x, valid = torch.rand(2, 3, 4, 5, 6), torch.rand(2, 1, 5, 6) > 0.5
    zeroed = zero_invalid(x, valid)
    kept = align(valid, x).expand_as(x)
    assert torch.equal(zeroed[kept], x[kept])
    assert zeroed[~kept].abs().sum() == 0
    assert zero_invalid(x, None) is x


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (2, 2, 3, 6, 8)])
@pytest.mark.parametrize("offset", [0, 2])
@pytest.mark.parametrize("factor", [2, 4])
def test_resizing_a_valid_region_equals_resizing_it_alone(shape, offset, factor):
    x = torch.randn(shape, dtype=torch.float64)
    canvas = torch.full((*shape[:-2], 12, 14), 1e3, dtype=torch.float64)
    valid = torch.zeros(2, 1, 12, 14, dtype=torch.bool)
    inside = (..., slice(offset, offset + 6), slice(offset, offset + 8))
    canvas[inside], valid[inside] = x, True
    alone = F.interpolate(x.flatten(1, -3), scale_factor=factor, mode="bilinear").reshape(
        *shape[:-2], 6 * factor, 8 * factor
    )
    resized = masked_resize(canvas, (12 * factor, 14 * factor), valid)
    low = offset * factor
    torch.testing.assert_close(resized[..., low : low + 6 * factor, low : low + 8 * factor], alone)
    torch.testing.assert_close(masked_resize(x, (6 * factor, 8 * factor), None), alone)
    assert resized.isfinite().all()


def test_an_image_of_padding_alone_resizes_to_zeros():
    resized = masked_resize(torch.rand(1, 2, 4, 4), (8, 8), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    assert resized.abs().max() == 0


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 5, 3, 4, 6)])
def test_means_weigh_valid_positions_alone(shape):
    x, valid = torch.randn(shape, dtype=torch.float64), torch.ones(2, 1, 4, 6, dtype=torch.bool)
    valid[0, ..., :1, :] = False
    valid[1] = False
    pooled, mean = masked_pool(x, 2, valid), masked_mean(x, valid)
    torch.testing.assert_close(pooled[0, ..., 0, 0], x[0, ..., 1, :2].mean(-1))
    torch.testing.assert_close(pooled[0, ..., 1, 2], x[0, ..., 2:, 4:].mean((-1, -2)))
    torch.testing.assert_close(mean[0], x[0, ..., 1:, :].mean((-1, -2)))
    assert pooled[1].abs().max() == mean[1].abs().max() == 0
    everywhere = torch.ones(2, 1, 4, 6, dtype=torch.bool)
    torch.testing.assert_close(masked_pool(x, 2, None), masked_pool(x, 2, everywhere))
    torch.testing.assert_close(masked_mean(x, None), masked_mean(x, everywhere))


def test_validity_goes_to_the_grid_of_features():
    valid = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    valid[..., :3, :] = True
    assert torch.equal(valid_at(valid, torch.zeros(1, 5, 3, 4, 4)), resize_valid(valid, (4, 4)))
    assert valid_at(None, torch.zeros(1, 3, 4, 4)) is None
