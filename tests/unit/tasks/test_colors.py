"""Colours of label maps and predictions, and scales of pictures."""

import matplotlib
import numpy as np
import pytest
import torch

from mtlsi_net.tasks.colors import (
    INVALID_COLOR,
    color_classes,
    color_scalars,
    color_shares,
    color_vectors,
    round_up,
    share_legend,
)

NAN, INF = float("nan"), float("inf")


def row(*values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype).view(1, 1, -1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_classes_have_their_colour_and_255_none(dtype):
    palette = np.arange(9, dtype=np.uint8).reshape(3, 3)
    drawn = color_classes(row(0, 2, 255, 1, dtype=dtype), palette)
    assert drawn.tolist() == [[[0, 1, 2], [6, 7, 8], list(INVALID_COLOR), [3, 4, 5]]]
    many = np.arange(900).reshape(300, 3).astype(np.uint8)
    assert color_classes(row(255, 299, 65535, dtype=torch.int32), many)[0].tolist() == [
        many[255].tolist(),
        many[299].tolist(),
        list(INVALID_COLOR),
    ]


def test_scalars_are_viridis_between_the_limits():
    values = [0.0, 1.0, 2.5, 7.99, 9.0, 8.0, -3.0, INF, -INF]
    expected = matplotlib.colormaps["viridis"](np.clip(np.float32(values).astype(float), 1, 8) / 7 - 1 / 7)[:, :3]
    drawn = color_scalars(row(*values, NAN, 255.0), 1, 8)[0]
    np.testing.assert_array_equal(drawn[:-2], (expected * 255).round().astype(np.uint8))
    assert drawn[-2:].tolist() == [list(INVALID_COLOR)] * 2


def test_vectors_are_red_green_and_blue():
    vectors = torch.tensor([[-1.0, 0.0, 1.0], [0.6, 0.8, 0.0], [0.0, 255.0, 0.0], [NAN, 0.0, 1.0], [0.0, -INF, INF]])
    drawn = color_vectors(vectors.T[:, None])[0]
    assert drawn[:2].tolist() == [[0, 128, 255], [204, 230, 128]]
    assert drawn[2:].tolist() == [list(INVALID_COLOR)] * 3


def test_shares_are_grey():
    drawn = color_shares(row(0.0, 0.5, 1.0, 1.2, -0.1, 255.0, NAN, INF))[0]
    assert drawn[:5].tolist() == [[level] * 3 for level in (0, 128, 255, 255, 0)]
    assert drawn[5:].tolist() == [list(INVALID_COLOR)] * 3


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.123, 0.13), (0.13, 0.13), (0.2000000030, 0.2), (1.0, 1.0), (0.051, 0.051), (7.01, 7.1), (1234.0, 1300.0)],
)
def test_ends_of_scales_have_two_digits_and_are_not_below_the_value(value, rounded):
    assert round_up(value) == pytest.approx(rounded)


def test_shares_above_the_end_of_the_scale_are_white():
    picture = color_shares(torch.tensor([[[0.0, 0.25, 0.5, 0.9]]]), 0.5)
    assert picture[0, :, 0].tolist() == [0, 128, 255, 255]
    assert share_legend("salient", 0.5).high == "0.5 salient"
