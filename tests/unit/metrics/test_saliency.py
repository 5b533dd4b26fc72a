import numpy as np
import pytest
import torch

from mtlsi_net.metrics.saliency import THRESHOLDS, SaliencyMetric


def max_f(score: np.ndarray, target: np.ndarray) -> float:
    """Return maxF by its definition, threshold by threshold."""
    valid = target != 255
    best = 0.0
    for threshold in THRESHOLDS.numpy():
        found, real = (score >= threshold) & valid, (target > 0.5) & valid
        hits = (found & real).sum()
        if hits:
            precision, recall = hits / found.sum(), hits / real.sum()
            best = max(best, 1.3 * precision * recall / (0.3 * precision + recall))
    return best


def scores(score: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    metric = SaliencyMetric()
    metric.update(score, target)
    return {key: value.item() for key, value in metric.compute().items()}


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(3, 1, 8, 8, generator=generator) < 0.3).float()
    score = (0.5 * target + 0.7 * torch.rand(target.shape, generator=generator)).clamp(0, 1)
    target[torch.rand(target.shape, generator=generator) < 0.1] = 255
    ours = scores(score, target)
    assert ours["maxF"] == pytest.approx(max_f(score.numpy(), target.numpy()), rel=1e-12)
    assert ours["maxF_invpt"] == pytest.approx(max_f(score.sigmoid().numpy(), target.numpy()), rel=1e-12)


def test_a_score_on_a_threshold_is_positive():
    target = torch.ones(1, 1, 1, 19)
    metric = SaliencyMetric()
    metric.update(THRESHOLDS.reshape(1, 1, 1, 19), target)
    assert metric.counts[1].tolist() == [0] + [1] * 19
    metric.reset()
    metric.update(torch.nextafter(THRESHOLDS, torch.tensor(0.0)).reshape(1, 1, 1, 19), target)
    assert metric.counts[1].tolist() == [1] * 19 + [0]


@pytest.mark.parametrize(("label", "score", "expected"), [(0.0, 0.9, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
def test_one_sided_labels_have_a_value(label, score, expected):
    assert scores(torch.full((1, 1, 2, 2), score), torch.full((1, 1, 2, 2), label))["maxF"] == expected
