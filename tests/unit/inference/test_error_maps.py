import numpy as np
import pytest
import torch

from mtlsi_net.inference.error_maps import error_picture
from mtlsi_net.inference.result import TaskResult
from mtlsi_net.tasks.depth import DepthTask, DisparityTask


@pytest.mark.parametrize(
    ("task", "error", "end"),
    [
        (DepthTask(), 0.25, "0.25 m"),
        (DepthTask(), 0.001, "0.01 m"),
        (DisparityTask(), 0.25, "0.25 disparity"),
        (DisparityTask(), 0.001, "0.001 disparity"),
        (DisparityTask(), 0.0, "1 disparity"),
    ],
)
def test_errors_of_scalars_are_in_the_tasks_own_unit(task, error, end):
    label = torch.full((1, 8, 9), 0.5)
    picture, legend = error_picture(TaskResult(task, label + error), label)
    assert legend.high == end
    assert picture.shape == (8, 9, 3)
    assert np.isfinite(picture).all()
