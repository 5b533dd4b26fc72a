import math

import pytest
import torch
from torchjd.scalarization import DWA, FAMO

from mtlsi_net.core.errors import UserError
from mtlsi_net.lit.weighting import DynamicWeightAverage, Famo, FixedWeights, LossProduct, UncertaintyWeights

METHODS = (FixedWeights, UncertaintyWeights, DynamicWeightAverage, LossProduct, Famo)


def scalars(**values):
    return {name: torch.tensor(float(value), requires_grad=True) for name, value in values.items()}


def weights_in_use(weighting, losses):
    return torch.stack(torch.autograd.grad(weighting(losses), list(losses.values())))


def test_total_is_the_weighted_sum_and_a_weight_of_no_trained_task_is_not_used():
    weighting = FixedWeights(["a", "b"], {"a": 2.0, "b": 3.0, "unused": 9.0}, aux=0.5)
    losses = weighting.join(scalars(a=1, b=10), scalars(a=4))
    assert weighting(losses).item() == 2 + 30 + 0.5 * 8


@pytest.mark.parametrize("method", METHODS)
def test_a_task_without_weight_is_named(method):
    with pytest.raises(UserError, match=r"no loss weight for b: add \+task_weights.weights.b=1"):
        method(["a", "b"], {"a": 1.0})


def test_equal_weights():
    assert weights_in_use(FixedWeights(["a", "b"]), scalars(a=3, b=7)).tolist() == [1, 1]


def test_uncertainty_has_the_closed_forms_gradients_and_minimum():
    weighting = UncertaintyWeights(["a", "b"])
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor([0.3, -1.2]))
    losses = scalars(a=2, b=0.5)
    weighting(losses).backward()
    assert losses["a"].grad.item() == pytest.approx(0.5 * math.exp(-0.3))
    assert losses["b"].grad.item() == pytest.approx(0.5 * math.exp(1.2))
    expected = [0.5 * (1 - math.exp(-0.3) * 2), 0.5 * (1 - math.exp(1.2) * 0.5)]
    assert weighting.log_variances.grad.tolist() == pytest.approx(expected)
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor([2.0, 0.5]).log())
    weighting.zero_grad()
    weighting(losses).backward()
    assert weighting.log_variances.grad.abs().max() < 1e-6


def test_log_variances_are_learned_without_weight_decay():
    weighting = UncertaintyWeights(["a"], lr=0.1)
    (group,) = weighting.parameter_groups()
    assert (group["params"], group["lr"], group["weight_decay"]) == ([weighting.log_variances], 0.1, 0.0)


def run_windows(weighting, windows):
    for losses in windows:
        weighting.after_step(torch.tensor(losses), lambda: pytest.fail("the losses before the step are enough"))


def test_dwa_follows_its_formula_over_three_windows():
    weighting = DynamicWeightAverage(["a", "b"], temperature=2.0, window=2)
    losses = scalars(a=5, b=5)
    run_windows(weighting, [[4.0, 1.0], [6.0, 3.0]])  # means 5, 2
    assert weights_in_use(weighting, losses).tolist() == [1, 1]
    run_windows(weighting, [[1.0, 2.0], [3.0, 2.0]])  # means 2, 2: rates 0.4, 1
    a, b = math.exp(0.4 / 2), math.exp(1.0 / 2)
    assert weights_in_use(weighting, losses).tolist() == pytest.approx([2 * a / (a + b), 2 * b / (a + b)])
    run_windows(weighting, [[9.0, 9.0]])  # amid a window nothing changes
    assert weights_in_use(weighting, losses).tolist() == pytest.approx([2 * a / (a + b), 2 * b / (a + b)])
    run_windows(weighting, [[1.0, 1.0]])  # means 5, 5: rates 2.5, 2.5
    assert weights_in_use(weighting, losses).tolist() == pytest.approx([1, 1])


def test_dwa_agrees_with_torchjds():
    ours, theirs = DynamicWeightAverage(["a", "b", "c"], window=1), DWA(temperature=2.0)
    for values in torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) + 0.1:
        assert ours.total(values).item() == pytest.approx(theirs(values).item())
        theirs.step()
        run_windows(ours, [values.tolist()])


def test_a_task_without_labels_for_a_whole_window_stands_still():
    weighting = DynamicWeightAverage(["a", "b"], window=1)
    run_windows(weighting, [[1.0, 0.0], [1.0, 3.0]])
    assert weights_in_use(weighting, scalars(a=1, b=1)).tolist() == [1, 1]


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"window": 0}])
def test_dwa_refuses_senseless_settings(options):
    with pytest.raises(UserError, match=f"task_weights.{next(iter(options))}"):
        DynamicWeightAverage(["a"], **options)


def test_log_is_the_gradient_of_the_product_up_to_scale():
    values = {"a": 2.0, "b": 0.5, "c": 3.0}
    found = weights_in_use(LossProduct(list(values)), scalars(**values))
    losses = scalars(**values)
    product = torch.stack(torch.autograd.grad(losses["a"] * losses["b"] * losses["c"], list(losses.values())))
    assert (found / product).tolist() == pytest.approx([1 / 3.0] * 3)
    assert weights_in_use(LossProduct(list(values), {"a": 1, "b": 50, "c": 10}), losses).tolist() == pytest.approx(
        found.tolist()
    )


def test_famos_weights_and_update_by_hand():
    weighting = Famo(["a", "b"], lr=0.1, decay=0.5)
    losses = scalars(a=2, b=0.5)
    # z = 1/2 each, c = 1 / (z / 2 + z / 0.5) = 0.8; weights c z / L
    assert weights_in_use(weighting, losses).tolist() == pytest.approx([0.2, 0.8])
    before, after = torch.tensor([2.0, 0.5]), torch.tensor([1.0, 0.4])
    fall = math.log(2), math.log(0.5 / 0.4)
    slope = 0.25 * (fall[0] - fall[1])  # a falls faster: its logit goes down, by Adam's first step of lr
    weighting.after_step(before, lambda: after)
    assert weighting.logits.tolist() == pytest.approx([-0.1, 0.1], abs=1e-6)
    # second step: z = softmax(-0.1, 0.1), the gradient of z plus decay, Adam's second moments
    z = 1 / (1 + math.exp(0.2))
    second = z * (1 - z) * (fall[0] - fall[1]) - 0.5 * 0.1
    mean = (0.1 * 0.9 * slope + 0.1 * second) / (1 - 0.9**2)
    square = (0.001 * 0.999 * slope**2 + 0.001 * second**2) / (1 - 0.999**2)
    weighting.after_step(before, lambda: after)
    assert weighting.logits[0].item() == pytest.approx(-0.1 - 0.1 * mean / math.sqrt(square), abs=1e-5)


def test_famo_agrees_with_torchjds():
    ours, theirs = Famo(["a", "b", "c"]), FAMO(3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        before, after = torch.rand(2, 3, generator=generator) + 0.1
        assert ours.total(before).item() == pytest.approx(theirs(before).item(), rel=1e-5, abs=1e-6)
        theirs.update(after)
        ours.after_step(before, lambda after=after: after)
    assert ours.logits.tolist() == pytest.approx(theirs._w.tolist(), abs=1e-5)
    assert ours.logits.abs().max() > 0.01


def test_famo_leaves_a_task_without_labels_alone():
    weighting = Famo(["a", "b"])
    found = weights_in_use(weighting, scalars(a=2, b=0))
    assert found.tolist() == pytest.approx([1.0, 0.0])
    weighting.after_step(torch.tensor([2.0, 0.0]), lambda: torch.tensor([1.0, 0.0]))
    assert weighting.logits.tolist() == [0, 0]
    assert weights_in_use(weighting, scalars(a=0, b=0)).tolist() == [0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_a_single_task_a_zero_and_a_nan_loss(method):
    alone = weights_in_use(method(["a"]), scalars(a=2))
    assert alone.isfinite().all()
    assert alone.item() > 0
    assert method(["a", "b"])(scalars(a=0, b=1)).isfinite()
    assert method(["a", "b"])(scalars(a=float("nan"), b=1)).isnan()


@pytest.mark.parametrize("method", METHODS)
def test_state_survives_a_checkpoint(method):
    weighting, fresh = method(["a", "b"]), method(["a", "b"])
    for _ in range(3):
        weighting.after_step(torch.tensor([1.0, 2.0]), lambda: torch.tensor([0.5, 1.9]))
    fresh.load_state_dict(weighting.state_dict())
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in weighting.state_dict().items())
    assert fresh(scalars(a=1, b=2)).item() == weighting(scalars(a=1, b=2)).item()


def test_fixed_weights_leave_no_trace_in_checkpoints():
    assert not FixedWeights(["a"]).state_dict()
