from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.vectors import depth_target, expected, leaves, tensor
from torch import Tensor
from torchmetrics import Metric

from mtlsi_net.metrics.boundary.arrays import soft_maps
from mtlsi_net.metrics.depth import DepthMetric, depth_sums
from mtlsi_net.metrics.gain import delta_m
from mtlsi_net.metrics.normals import NormalsMetric
from mtlsi_net.metrics.per_image import saliency_f
from mtlsi_net.metrics.saliency import THRESHOLDS, SaliencyMetric
from mtlsi_net.metrics.segmentation import SegmentationMetric
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.losses import boundary_loss


def fed(metric: Metric, prediction: Tensor, target: Tensor) -> Metric:
    """Feed two images at a time, as the vectors were made."""
    for pair in zip(prediction.split(2), target.split(2), strict=True):
        metric.update(*pair)
    return metric


def scores(metric: Metric, prediction: Tensor, target: Tensor) -> dict[str, float]:
    return {key: value.item() for key, value in fed(metric, prediction, target).compute().items()}


def miou(name: str, num_classes: int) -> float:
    logits = tensor(f"{name}_logits")
    return scores(SegmentationMetric(num_classes), logits.argmax(1, keepdim=True), tensor(f"{name}_gt"))["mIoU"]


def saliency() -> SaliencyMetric:
    metric = SaliencyMetric()
    fed(metric, tensor("sal_logits2").softmax(1)[:, 1:], tensor("sal_gt"))
    return metric


def normals() -> dict[str, float]:
    return scores(NormalsMetric(), tensor("normals_pred"), tensor("normals_gt"))


def normals_from_8_bits() -> dict[str, float]:
    unit = torch.nn.functional.normalize(tensor("normals_pred"), dim=1)
    stored = ((unit + 1) * 127.5).to(torch.uint8)
    return scores(NormalsMetric(), stored.float() * 2 / 255 - 1, tensor("normals_gt"))


def depth() -> dict[str, float]:
    return scores(DepthMetric(), tensor("depth_pred").clamp(min=0), depth_target())


def depth_with_255_taken_for_metres() -> float:
    """What ATRC computes on missing depth: the 255 that marks it is scored as a depth."""
    error = tensor("depth_pred").clamp(min=0) - depth_target()
    return error.square().mean().sqrt().item()


def positives_at_thresholds() -> list[int]:
    counts = saliency().counts_invpt
    return [int(counts[:, level:].sum()) for level in range(1, THRESHOLDS.numel() + 1)]


VECTORS: dict[str, Callable[[], Any]] = {
    "semseg_nyud_mIoU": lambda: miou("semseg_nyud", 40),
    "semseg_pascal_mIoU_21cls_incl_background_absent_class_counts_as_0": lambda: miou("semseg_pascal", 21),
    "human_parts_mIoU_7cls_incl_background_image0_fully_ignored": lambda: miou("parts", 7),
    "sal_maxF/atrc_softmax_prob_thresholds_0.05..0.95": lambda: saliency().compute()["maxF"].item(),
    "sal_maxF/invpt_family_double_sigmoid": lambda: saliency().compute()["maxF_invpt"].item(),
    "sal_maxF/atrc_best_threshold": lambda: THRESHOLDS[saliency_f(saliency().counts.numpy()).argmax()].item(),
    "sal_maxF/invpt_best_threshold_on_double_sigmoid_scale": lambda: THRESHOLDS[
        saliency_f(saliency().counts_invpt.numpy()).argmax()
    ].item(),
    "sal_maxF/atrc_F_per_threshold": lambda: saliency_f(saliency().counts.numpy()).tolist(),
    "sal_maxF/invpt_predicted_positives_per_threshold": positives_at_thresholds,
    "sal_maxF/thresholds_float32": THRESHOLDS.tolist,
    "normals_mean_deg/invpt_family": lambda: normals()["mean"],
    "normals_mean_deg/atrc": lambda: normals()["mean"],
    "normals_mean_deg/mti_net_online/mean": lambda: normals()["mean"],
    "normals_mean_deg/mti_net_online/rmse": lambda: normals()["mean"],  # MTI's bug: its online rmse is the mean
    "normals_mean_deg/mti_net_online/11.25": lambda: 100 * normals()["within_11.25"],
    "normals_mean_deg/mti_net_online/22.5": lambda: 100 * normals()["within_22.5"],
    "normals_mean_deg/mti_net_online/30": lambda: 100 * normals()["within_30"],
    "normals_mean_deg/mti_net_offline_from_uint8_png/mean": lambda: normals_from_8_bits()["mean"],
    "normals_mean_deg/mti_net_offline_from_uint8_png/rmse": lambda: normals_from_8_bits()["rmse"],
    "normals_mean_deg/mti_net_offline_from_uint8_png/median": lambda: normals_from_8_bits()["median"],
    "normals_mean_deg/mti_net_offline_from_uint8_png/11.25": lambda: 100 * normals_from_8_bits()["within_11.25"],
    "normals_mean_deg/mti_net_offline_from_uint8_png/22.5": lambda: 100 * normals_from_8_bits()["within_22.5"],
    "normals_mean_deg/mti_net_offline_from_uint8_png/30": lambda: 100 * normals_from_8_bits()["within_30"],
    "normals_mean_deg/n_valid_pixels": lambda: int(
        fed(NormalsMetric(), tensor("normals_pred"), tensor("normals_gt")).histogram.sum()
    ),
    "depth/invpt_family/rmse": lambda: depth()["rmse"],
    "depth/invpt_family/log_rmse": lambda: depth()["log_rmse"],
    "depth/invpt_family/abs_rel": lambda: depth()["abs_rel"],
    "depth/invpt_family/sq_rel": lambda: depth()["sq_rel"],
    "depth/invpt_family/n_valid": lambda: depth_sums(tensor("depth_pred"), depth_target())[-1].item(),
    "depth/atrc_rmse_if_0_masked": lambda: depth()["rmse"],
    "depth/atrc_rmse_as_wired_255_not_masked": depth_with_255_taken_for_metres,
    "depth/mti_net_offline/rmse": lambda: depth()["rmse"],
    "depth/mti_net_offline/log_rmse": lambda: depth()["log_rmse"],
    "edge_meter_loss_sigmoid_fed_into_bce_with_logits_NOT_a_real_metric": lambda: boundary_loss(
        tensor("edge_logit").sigmoid(), tensor("edge_gt"), 0.95
    ).item(),
}
ABSOLUTE = {"normals_mean_deg/mti_net_offline_from_uint8_png/median": 0.005}  # the histogram's stated resolution
PER_IMAGE = "MTI's saliency is per image, another protocol"
NOT_OURS = {
    "sal_maxF/mti_net_per_image_mean_P_R_F1_no_ignore_labels": PER_IMAGE,
    "sal_maxF/mti_net_max_mIoU_no_ignore_labels": PER_IMAGE,
}


@pytest.mark.parametrize(("name", "value"), leaves("metrics").items())
def test_vector_metric(name, value):
    if name in NOT_OURS:
        pytest.skip(NOT_OURS[name])
    assert VECTORS[name]() == pytest.approx(value, rel=1e-5, abs=ABSOLUTE.get(name, 1e-9))


def test_vector_edge_png_uint8():
    """What the lineage stores before it is scored, the metric scores: bytes, truncated."""
    scored = soft_maps(list(BoundaryTask().postprocess(tensor("edge_logit"))))
    np.testing.assert_array_equal(np.stack(scored), tensor("edge_png_uint8").numpy())
    assert np.sum(scored) == expected()["edge_png_uint8_sum"]


def test_vector_thresholds_are_bit_exact():
    assert THRESHOLDS.tolist() == expected()["metrics"]["sal_maxF"]["thresholds_float32"]


def test_vector_delta_m():
    example = expected()["delta_m_example"]
    multi, single = ({task: next(iter(s.values())) for task, s in example[side].items()} for side in ("mtl", "stl"))
    higher = {"semseg": True, "depth": False, "normals": False, "edge": True}
    assert delta_m(multi, single, higher) == pytest.approx(example["delta_m"], rel=1e-12)


METRICS: dict[str, tuple[Callable[[], Metric], Callable[[], Tensor], Callable[[], Tensor]]] = {
    "segmentation": (
        lambda: SegmentationMetric(7),
        lambda: tensor("parts_logits").argmax(1, keepdim=True),
        lambda: tensor("parts_gt"),
    ),
    "depth": (DepthMetric, lambda: tensor("depth_pred"), depth_target),
    "normals": (NormalsMetric, lambda: tensor("normals_pred"), lambda: tensor("normals_gt")),
    "saliency": (SaliencyMetric, lambda: tensor("sal_logits2").softmax(1)[:, 1:], lambda: tensor("sal_gt")),
}
all_metrics = pytest.mark.parametrize(("new", "prediction", "target"), METRICS.values(), ids=METRICS)


@all_metrics
def test_single_images_give_the_same_as_one_batch(new, prediction, target):
    whole, parts = new(), new()
    whole.update(prediction(), target())
    for pair in zip(prediction().split(1), target().split(1), strict=True):
        parts.update(*pair)
    one, other = whole.compute(), parts.compute()
    assert {key: value.item() for key, value in one.items()} == pytest.approx(
        {key: value.item() for key, value in other.items()}, rel=1e-12
    )
    assert all(value.dtype == torch.float64 and value.ndim == 0 for value in one.values())


@all_metrics
def test_inputs_are_left_alone_and_reset_forgets(new, prediction, target):
    metric, p, t = new(), prediction(), target()
    metric.update(p, t)
    first = {key: value.item() for key, value in metric.compute().items()}
    assert torch.equal(p, prediction())
    assert torch.equal(t, target())
    metric.reset()
    metric.update(p, t)
    assert {key: value.item() for key, value in metric.compute().items()} == first


@all_metrics
@pytest.mark.filterwarnings("error")
def test_invalid_pixels_do_not_count_and_alone_give_nan(new, prediction, target):
    metric = new()
    metric.update(prediction(), torch.full_like(target(), 255.0))
    assert all(value.isnan() for value in metric.compute().values())
    metric.update(prediction(), target())
    alone = new()
    alone.update(prediction(), target())
    assert {key: value.item() for key, value in metric.compute().items()} == {
        key: value.item() for key, value in alone.compute().items()
    }


@all_metrics
def test_states_of_two_processes_add_up(new, prediction, target):
    halves = [new(), new()]
    for metric, p, t in zip(halves, prediction().split(2), target().split(2), strict=True):
        metric.update(p, t)
    whole = new()
    whole.update(prediction(), target())
    for name, reduce in whole._reductions.items():
        merged = reduce(torch.stack([getattr(metric, name) for metric in halves]))
        torch.testing.assert_close(merged, getattr(whole, name), rtol=1e-12, atol=0)
