"""Pictures of boundaries: scaled to what is there."""

import numpy as np
import pytest
import torch

from mtlsi_net.tasks.base import fit_pair
from mtlsi_net.tasks.boundary import FAINTEST, BoundaryTask
from mtlsi_net.tasks.depth import DepthTask
from mtlsi_net.tasks.saliency import SaliencyTask


@pytest.mark.parametrize(
    ("values", "white"),
    [
        ([0.0, 1.0, 255.0], 1.0),
        ([0.02, 0.123], 0.13),
        ([0.5, float("nan"), 255.0], 0.5),
        ([0.0, 0.004], FAINTEST),
        ([255.0, 255.0], 1.0),
    ],
)
def test_the_highest_probability_is_white_and_the_legend_says_which_it_is(values, white):
    task, value = BoundaryTask(), torch.tensor(values).view(1, 1, -1)
    fitted = task.fitted(value)
    assert fitted.white == pytest.approx(white)
    assert fitted.legend(value).high == f"{white:g} boundary"
    assert task.white == 1.0
    assert (task.legend(value).low, task.legend(value).high) == ("0", "1 boundary")


def test_a_faint_boundary_is_drawn_bright():
    value = torch.tensor([[[0.0, 0.03, 0.12, 255.0]]])
    plain = BoundaryTask().colorize(value)[0, :3, 0]
    assert plain.tolist() == [0, 8, 31]  # 255 p
    fitted = BoundaryTask().fitted(value).colorize(value)
    assert fitted[0, :3, 0].tolist() == [0, 64, 255]
    assert np.array_equal(fitted[0, 3], BoundaryTask().colorize(value)[0, 3])  # still marked as invalid


def test_a_label_and_its_prediction_have_one_scale_except_for_boundaries():
    label, value = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.05, 0.2]]])
    fitted, shown = fit_pair(BoundaryTask(), label, value)
    assert (fitted.white, shown.white) == (1.0, 0.2)
    fitted, shown = fit_pair(DepthTask(), 3 * label + 1, 100 * value)
    assert fitted.depth_range == shown.depth_range == (1.0, 4.0)
    assert fit_pair(task := SaliencyTask(), label, value) == (task, task)
