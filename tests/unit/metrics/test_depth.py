import numpy as np
import pytest
import torch

from mtlsi_net.metrics.depth import DepthMetric


def scores(prediction: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    metric = DepthMetric()
    metric.update(prediction, target)
    return {key: value.item() for key, value in metric.compute().items()}


def test_all_values_agree_with_numpy():
    rng = np.random.default_rng(0)
    target = rng.uniform(0.5, 10, (3, 1, 8, 9))
    prediction = target * np.exp(rng.normal(0, 0.4, target.shape))
    missing = rng.random(target.shape) < 0.3
    ours = scores(torch.tensor(prediction), torch.tensor(np.where(missing, 255, target)))
    p, t = prediction[~missing], target[~missing]
    ratio = np.maximum(p / t, t / p)
    assert ours == pytest.approx(
        {
            "rmse": np.sqrt(np.mean((p - t) ** 2)),
            "abs_err": np.mean(np.abs(p - t)),
            "abs_rel": np.mean(np.abs(p - t) / t),
            "log_rmse": np.sqrt(np.mean((np.log(p) - np.log(t)) ** 2)),
            "sq_rel": np.mean((p - t) ** 2 / t),
            "delta1": np.mean(ratio < 1.25),
            "delta2": np.mean(ratio < 1.25**2),
            "delta3": np.mean(ratio < 1.25**3),
        },
        rel=1e-12,
    )
    assert 0 < ours["delta1"] < ours["delta2"] < ours["delta3"] < 1


def test_pooling_is_over_pixels_not_images():
    target = torch.full((2, 1, 2, 2), 2.0)
    target[1, 0, 0] = 255  # the second image has half the pixels
    prediction = torch.full((2, 1, 2, 2), 2.0)
    prediction[1] = 5.0
    assert scores(prediction, target)["rmse"] == pytest.approx(np.sqrt(2 * 9 / 6))


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_predictions_without_logarithm_count_as_a_nanometre(value):
    ours = scores(torch.full((1, 1, 1, 1), value), torch.ones(1, 1, 1, 1))
    assert ours["log_rmse"] == pytest.approx(9 * np.log(10))
    assert ours["rmse"] == pytest.approx(1.0)
    assert ours["delta3"] == 0
