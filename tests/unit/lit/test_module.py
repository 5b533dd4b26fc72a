import lightning as L
import pytest
import torch
from torch import nn

from mtlsi_net.core.types import Prediction, TargetSpec
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.lit.weighting import FixedWeights


class Square:
    """A task whose loss is the mean square of what its output lacks."""

    target = TargetSpec(1, "scalar")

    def loss(self, output, target):
        return (output - target).square().mean()


class Constant(nn.Module):
    """A network that predicts what it is given."""

    def __init__(self, prediction):
        super().__init__()
        self.prediction = prediction

    def forward(self, *_):
        return self.prediction


def total(prediction, aux=1.0):
    weighting = FixedWeights(["depth"], {"depth": 2.0}, aux=aux)
    module = MultiTaskModule(Constant(prediction), {"depth": Square()}, weighting, None, {}, {})
    module.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    module.log_dict = lambda values: [module.log(name, value) for name, value in values.items()]
    batch = {
        "image": torch.rand(1, 3, 8, 8),
        "valid": torch.ones(1, 1, 8, 8, dtype=torch.bool),
        "id": ["a"],
        "targets": {"depth": torch.zeros(1, 1, 8, 8)},
    }
    return float(module.training_step(batch, 0)), logged


def filled(value, side):
    return {"depth": torch.full((1, 1, side, side), value, requires_grad=True)}


def test_losses_of_all_scales_of_preliminary_predictions_add_up():
    prediction = Prediction(filled(1.0, 8), [filled(2.0, 2), filled(3.0, 4)])
    loss, logged = total(prediction, aux=0.5)
    assert loss == pytest.approx(2 * (1 + 0.5 * (4 + 9)))
    assert logged["train/depth/aux_loss"] == pytest.approx(13)
    assert total(prediction, aux=0.0)[0] == pytest.approx(2)


def test_regularisers_are_added_as_they_are_and_logged():
    loss, logged = total(Prediction(filled(1.0, 8), regularisers={"balance": torch.tensor(0.25)}))
    assert loss == pytest.approx(2.25)
    assert logged["train/balance"] == pytest.approx(0.25)
    assert not any("balance" in name for name in total(Prediction(filled(1.0, 8)))[1])
