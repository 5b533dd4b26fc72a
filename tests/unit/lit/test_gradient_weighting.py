import sys

import pytest
import torch
from torch import nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.lit.gradient_weighting import METHODS, GradientWeights, shared_gramian

OPTIONS = {"CAGrad": {"c": 0.4}, "FairGrad": {"alpha": 1.0}}
FIRST, SECOND = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])


def of(method, tasks=("a", "b"), **options):
    return GradientWeights(list(tasks), method=method, options=OPTIONS.get(method), **options)


def conflict():
    """Return a parameter and two losses with the gradients FIRST and SECOND."""
    parameter = nn.Parameter(torch.ones(2))
    return parameter, {"a": parameter @ FIRST, "b": parameter @ SECOND}


def step(weighting):
    parameter, losses = conflict()
    weighting(losses, [parameter]).backward()
    return parameter.grad


def test_pcgrad_projects_two_conflicting_gradients():
    project = lambda g, other: g - (g @ other) / (other @ other) * other  # noqa: E731 - the paper's formula
    expected = project(FIRST, SECOND) + project(SECOND, FIRST)
    assert torch.allclose(step(of("PCGrad")), expected)


def test_mgda_finds_the_smallest_convex_combination():
    # min over t of |t g1 + (1 - t) g2|^2 has t = (g2 - g1) g2 / |g1 - g2|^2
    t = ((SECOND - FIRST) @ SECOND) / (FIRST - SECOND).square().sum()
    assert torch.allclose(step(of("MGDA")), t * FIRST + (1 - t) * SECOND, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_worsens_either_task_of_this_conflict(method):
    direction = step(of(method))
    assert direction.abs().max() > 0
    assert direction @ FIRST >= -1e-4
    assert direction @ SECOND >= -1e-4


def test_constant_factors_come_first():
    parameter, losses = conflict()
    of("PCGrad", weights={"a": 2.0, "b": 3.0})(losses, [parameter]).backward()
    a, b = 2 * FIRST, 3 * SECOND
    expected = a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a
    assert torch.allclose(parameter.grad, expected)


def test_only_what_more_than_one_task_reaches_decides():
    shared, own = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor(5.0))
    losses = [shared @ FIRST + 7 * own, shared @ SECOND]
    expected = torch.stack([FIRST, SECOND]) @ torch.stack([FIRST, SECOND]).T
    assert torch.equal(shared_gramian(losses, [shared, own]), expected)


def test_inner_products_are_exact_inside_bfloat16_training():
    parameter = nn.Parameter(torch.tensor([1.001, 3.003]))
    losses = [(parameter * parameter).sum(), parameter.prod()]
    with torch.autocast("cpu", torch.bfloat16):
        inside = shared_gramian(losses, [parameter])
    assert torch.equal(inside, shared_gramian(losses, [parameter]))
    assert inside.dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_a_task_without_gradient_takes_no_part(method):
    parameter, losses = conflict()
    losses["c"] = 0 * parameter.sum()
    of(method, "abc")(losses, [parameter]).backward()
    assert parameter.grad.tolist() == pytest.approx(step(of(method)).tolist(), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_task_keeps_its_own_gradient(method):
    parameter, losses = conflict()
    of(method, "a")({"a": losses["a"]}, [parameter]).backward()
    assert torch.equal(parameter.grad, FIRST)


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_loss_stays_nan(method):
    parameter, losses = conflict()
    losses["b"] = losses["b"] * float("nan")
    assert of(method)(losses, [parameter]).isnan()


def test_what_it_cannot_do_is_refused():
    weighting = of("PCGrad")
    weighting.check_trainer("bf16-mixed", 1)
    with pytest.raises(UserError, match=r"trainer.devices=1"):
        weighting.check_trainer("32-true", 2)
    with pytest.raises(UserError, match=r"bf16-mixed"):
        weighting.check_trainer("16-mixed", 1)
    with pytest.raises(UserError, match="did you mean 'PCGrad'"):
        of("PCGard").check_trainer("32-true", 1)
    with pytest.raises(UserError, match=r"task_weights.options=\{\} do not fit CAGrad.*'c'"):
        GradientWeights(["a"], method="CAGrad").check_trainer("32-true", 1)


def test_without_torchjd_the_command_that_installs_it_is_named_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    weighting = of("PCGrad")
    with pytest.raises(UserError, match=r"pip install 'mtlsi-net\[balancing\]'") as caught:
        weighting.check_trainer("32-true", 1)
    assert "\n" not in str(caught.value)
