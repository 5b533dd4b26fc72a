from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import Prediction, TargetSpec
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.lit.optim import Recipe
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


@pytest.mark.parametrize(("strides", "aligned"), [([4, 8], True), ([], False), ([16], False)])
def test_a_preliminary_map_whose_cells_reach_beyond_the_image_is_compared_with_the_labels_that_it_covers(
    strides, aligned
):
    centres = (8 * torch.arange(4.0) + 3.5).expand(1, 1, 3, 4)  # of cells of 8 pixels, on an image of 20 x 28
    labels = torch.arange(28.0).expand(1, 1, 20, 28)
    network = Constant(None)
    network.aux_strides = strides
    module = MultiTaskModule(network, {"depth": Square()}, FixedWeights(["depth"]), None, {}, {})
    _, aux = module.losses(Prediction({"depth": labels}, [{"depth": centres}]), {"depth": labels})
    left = sum((3.5 - x) ** 2 for x in range(4)) / 28  # before the first centre, where a map is constant
    if aligned:
        assert float(aux["depth"]) == pytest.approx(left)
    else:
        squeezed = F.interpolate(centres, (20, 28), mode="bilinear")
        assert float(aux["depth"]) == pytest.approx(float((squeezed - labels).square().mean())) != left


@pytest.mark.parametrize("steps", [{"max_steps": -1}, {"max_steps": -1, "max_time": {"hours": 1}}])
def test_a_training_without_an_end_is_refused_in_one_line(steps):
    module = MultiTaskModule(nn.Linear(1, 1), {}, FixedWeights([]), None, {}, {})
    module.trainer = L.Trainer(accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, **steps)
    with pytest.raises(UserError, match=r"max_steps=-1 and trainer.max_epochs=-1 leave .* without an end"):
        module.configure_optimizers()


def test_a_fused_optimiser_is_refused_where_gradients_are_scaled():
    network, recipe = nn.Linear(1, 1), Recipe(partial(torch.optim.AdamW, fused=True), lr=0.1, weight_decay=0.0)
    module = MultiTaskModule(network, {}, FixedWeights([]), recipe, {}, {})
    trainer = SimpleNamespace(precision="16-mixed", world_size=1, estimated_stepping_batches=5)
    module._trainer, module._fabric = trainer, None
    with pytest.raises(UserError, match=r"fused=true clips float16's gradients .*bf16-mixed"):
        module.configure_optimizers()
    trainer.precision = "bf16-mixed"
    assert module.configure_optimizers()["optimizer"].param_groups[0]["fused"]


def test_the_number_of_skipped_steps_outlives_a_resumption():
    def fresh():
        return MultiTaskModule(nn.Linear(1, 1), {}, FixedWeights([]), None, {}, {}, non_finite="skip")

    before, after, checkpoint = fresh(), fresh(), {}
    before.guard.skipped = 3
    before.on_save_checkpoint(checkpoint)
    after.on_load_checkpoint(checkpoint)
    assert after.guard.skipped == 3
    after.on_load_checkpoint({})
    assert after.guard.skipped == 0


def test_regularisers_are_added_as_they_are_and_logged():
    loss, logged = total(Prediction(filled(1.0, 8), regularisers={"balance": torch.tensor(0.25)}))
    assert loss == pytest.approx(2.25)
    assert logged["train/balance"] == pytest.approx(0.25)
    assert not any("balance" in name for name in total(Prediction(filled(1.0, 8)))[1])
