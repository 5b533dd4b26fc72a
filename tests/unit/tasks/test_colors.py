"""Scales of pictures."""

import pytest
import torch

from mtlsi_net.tasks.colors import color_shares, round_up, share_legend


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
