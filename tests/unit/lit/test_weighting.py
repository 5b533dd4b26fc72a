import pytest
import torch

from mtlsi_net.lit.weighting import FixedWeights
from mtlsi_net.utils.errors import UserError


def test_total_is_the_weighted_sum():
    weighting = FixedWeights({"a": 2.0, "b": 3.0, "unused": 9.0}, aux=0.5)
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(10.0)}
    assert weighting(losses, {"a": torch.tensor(4.0)}).item() == 2 + 30 + 0.5 * 8


def test_a_task_without_weight_is_named():
    with pytest.raises(UserError, match="no loss weight for b"):
        FixedWeights({"a": 1.0}).check({"a": None, "b": None})
