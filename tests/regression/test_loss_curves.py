import json

import pytest
import torch
from helpers.loss_curves import KEPT, STEPS, loss_curve
from helpers.modules import MODELS

from mtlsi_net.models.semantic_decoder import Gate

CURVES = json.loads(KEPT.read_text())
COMPARED = 8
"""Of the kept steps, the first ones."""
TOLERANCE = 2e-6
"""Relative; weights that differ by 3e-7 of themselves move no loss by more than 3e-7."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_network_has_a_kept_curve():
    assert sorted(CURVES) == MODELS
    assert {len(curve) for curve in CURVES.values()} == {STEPS}


@pytest.mark.parametrize("model", MODELS)
def test_the_first_steps_lose_as_they_did(model):
    """A change that is meant: ``PYTHONPATH=tests python -m helpers.loss_curves``."""
    curve = loss_curve(model, COMPARED)
    assert len(curve) == COMPARED
    assert curve[-1] < 0.95 * curve[0]
    assert curve == pytest.approx(CURVES[model][:COMPARED], rel=TOLERANCE)


def test_the_tolerance_is_finer_than_a_lost_gradient(monkeypatch):
    weights = Gate.weights
    monkeypatch.setattr(Gate, "weights", lambda *arguments: weights(*arguments).detach())
    assert loss_curve("mtlsi", COMPARED) != pytest.approx(CURVES["mtlsi"][:COMPARED], rel=TOLERANCE)
