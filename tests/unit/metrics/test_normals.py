import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtlsi_net.metrics.normals import NormalsMetric, angular_error, unit_vectors


def vectors(degrees: list[float]) -> torch.Tensor:
    """Return vectors that stand off z by the given angles, (1, 3, 1, W) float64."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()])[None, :, None]


def scores(prediction: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    metric = NormalsMetric()
    metric.update(prediction, target)
    return {key: value.item() for key, value in metric.compute().items()}


def test_angles_are_exact_where_arccos_is_not():
    angles = [0.0, 1e-6, 11.25, 90.0, 179.999999, 180.0]
    found = angular_error(7 * vectors(angles), vectors([0.0] * len(angles)))
    np.testing.assert_allclose(found.flatten().numpy(), angles, rtol=1e-9, atol=1e-12)


def test_all_values_agree_with_numpy():
    rng = np.random.default_rng(0)
    target, prediction = (rng.normal(size=(2, 3, 20, 21)) for _ in range(2))
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    prediction = target + 0.3 * prediction
    missing = rng.random((2, 20, 21)) < 0.2
    marked = target.copy()
    marked[:, 1][missing] = 255  # one channel is enough
    ours = scores(torch.tensor(prediction), torch.tensor(marked))
    cosine = (prediction * target).sum(1) / np.linalg.norm(prediction, axis=1)
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))[~missing]
    assert ours.pop("median") == pytest.approx(np.median(angle), abs=0.005)
    assert ours == pytest.approx(
        {
            "mean": angle.mean(),
            "rmse": np.sqrt(np.mean(angle**2)),
            "within_11.25": np.mean(angle < 11.25),
            "within_22.5": np.mean(angle < 22.5),
            "within_30": np.mean(angle < 30),
        },
        rel=1e-9,
    )


@pytest.mark.parametrize("angles", [[12.345], [10.001, 20.001], [5.0, 50.0, 50.5, 180.0], [0.0, 0.0, 90.0]])
def test_median_of_even_and_odd_numbers(angles):
    found = scores(vectors(angles), vectors([0.0] * len(angles)))["median"]
    assert found == pytest.approx(np.median(angles), abs=0.005 + 1e-9)


def test_zero_prediction_is_a_right_angle_off():
    assert scores(torch.zeros(1, 3, 2, 2), torch.tensor([0.0, 0.6, 0.8]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2))[
        "mean"
    ] == pytest.approx(90.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_vectors_and_gradients_are_torchs(dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7, dtype=dtype)
    x[0, :, 0, 0], x[0, :, 0, 1], x[0, :, 0, 2] = 0, 1e-13, 1e-9  # none, shorter than eps, short
    direction = torch.randn_like(x)
    found = []
    for function in (unit_vectors, lambda v: F.normalize(v, dim=1)):
        own = x.clone().requires_grad_()
        unit = function(own)
        (unit * direction).sum().backward()
        found.append((unit.detach(), own.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_half_precision_does_not_overflow():
    x = torch.tensor([300.0, 0.0, 400.0], dtype=torch.float16).view(1, 3, 1, 1)
    unit = unit_vectors(x)
    assert unit.dtype == torch.float16
    torch.testing.assert_close(unit.flatten(), torch.tensor([0.6, 0.0, 0.8], dtype=torch.float16))
