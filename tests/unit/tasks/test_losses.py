import math
from collections.abc import Callable

import pytest
import torch
from helpers.vectors import depth_target, leaves, tensor
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.types import count_labels
from mtlsi_net.tasks.losses import (
    balanced_cross_entropy_loss,
    boundary_loss,
    cosine_loss,
    cross_entropy_loss,
    l1_loss,
    normals_loss,
)

Loss = Callable[..., Tensor]

# Loss, output channels, target channels.
LOSSES: dict[str, tuple[Loss, int, int]] = {
    "cross_entropy": (cross_entropy_loss, 4, 1),
    "balanced_cross_entropy": (balanced_cross_entropy_loss, 2, 1),
    "boundary": (lambda output, target, **more: boundary_loss(output, target, 0.95, **more), 1, 1),
    "l1": (l1_loss, 1, 1),
    "normals": (normals_loss, 3, 3),
    "cosine": (cosine_loss, 3, 3),
}
all_losses = pytest.mark.parametrize(("loss", "outputs", "planes"), LOSSES.values(), ids=LOSSES)


def nyud_losses(scale: float = 1.0) -> list[Tensor]:
    return [
        cross_entropy_loss(scale * tensor("semseg_nyud_logits"), tensor("semseg_nyud_gt")),
        l1_loss(scale * tensor("depth_pred"), depth_target()),
        normals_loss(scale * tensor("normals_pred"), tensor("normals_gt")),
        boundary_loss(scale * tensor("edge_logit"), tensor("edge_gt"), 0.95),
    ]


def weighted(losses: list[Tensor]) -> Tensor:
    return sum((weight * loss for weight, loss in zip((1, 1, 10, 50), losses, strict=True)), torch.zeros(()))


def share_of_negatives(name: str) -> float:
    target = tensor(name)
    return float((target == 0).sum() / (target != 255).sum())


def parts_ignored() -> Tensor:
    return cross_entropy_loss(tensor("parts_logits"), torch.full_like(tensor("parts_gt"), 255.0))


def edge(weight: float, target: str = "edge_gt") -> Tensor:
    return boundary_loss(tensor("edge_logit"), tensor(target), weight)


def nyud_cross_entropy() -> Tensor:
    return cross_entropy_loss(tensor("semseg_nyud_logits"), tensor("semseg_nyud_gt"))


def normals() -> Tensor:
    return normals_loss(tensor("normals_pred"), tensor("normals_gt"))


VECTORS: dict[str, Callable[[], Tensor]] = {
    "atrc_invpt_family/semseg_ce_nyud": nyud_cross_entropy,
    "atrc_invpt_family/semseg_ce_pascal": lambda: cross_entropy_loss(
        tensor("semseg_pascal_logits"), tensor("semseg_pascal_gt")
    ),
    "atrc_invpt_family/human_parts_ce": lambda: cross_entropy_loss(tensor("parts_logits"), tensor("parts_gt")),
    "atrc_invpt_family/human_parts_ce_all_ignored": parts_ignored,
    "atrc_invpt_family/sal_balanced_ce": lambda: balanced_cross_entropy_loss(tensor("sal_logits2"), tensor("sal_gt")),
    "atrc_invpt_family/edge_balanced_bce_w0.95": lambda: edge(0.95),
    "atrc_invpt_family/edge_balanced_bce_w0.8": lambda: edge(0.8),
    "atrc_invpt_family/edge_balanced_bce_w0.925": lambda: edge(0.925),
    "atrc_invpt_family/edge_balanced_bce_w0.88": lambda: edge(0.88),
    "atrc_invpt_family/edge_balanced_bce_hed_auto": lambda: edge(share_of_negatives("edge_gt")),
    "atrc_invpt_family/normals_l1_normalized": normals,
    "atrc_invpt_family/depth_l1": lambda: l1_loss(tensor("depth_pred"), depth_target()),
    "mti_net/semseg_ce_nyud": nyud_cross_entropy,
    "mti_net/edge_balanced_bce_w0.95_noignore": lambda: edge(0.95, "edge_gt_noignore"),
    "mti_net/sal_balanced_bce_auto_noignore": lambda: boundary_loss(
        tensor("sal_logit1"), tensor("sal_gt_noignore"), share_of_negatives("sal_gt_noignore")
    ),
    "mti_net/normals_l1_normalized": lambda: normals() / 3,  # MTI divides by elements, the others by pixels
    "mti_net/depth_l1": lambda: l1_loss(tensor("depth_pred"), depth_target()),
    "nyud_total_weights_1_1_10_50_edge_w_0.95": lambda: weighted(nyud_losses()),
    "nyud_total_plus_intermediate_(preds*0.5)_weight_1.0": lambda: weighted(nyud_losses()) + weighted(nyud_losses(0.5)),
    "nyud_total_mtmamba_log_scheme_all_weights_1": lambda: torch.stack(nyud_losses()).add(1e-8).log().sum(),
}
NOT_OURS = {"mti_net/human_parts_ce_all_ignored": "MTI's NaN on a batch without person, a bug: ours is 0"}


@pytest.mark.parametrize(("name", "value"), leaves("losses").items())
def test_vector_loss(name, value):
    if name in NOT_OURS:
        pytest.skip(NOT_OURS[name])
    assert VECTORS[name]().item() == pytest.approx(value, rel=1e-5, abs=1e-12)


@all_losses
def test_all_invalid_batch_gives_zero_with_gradient(loss, outputs, planes):
    output = torch.randn(1, outputs, 3, 4, requires_grad=True)
    value = loss(output, torch.full((1, planes, 3, 4), 255.0))
    value.backward()
    assert value.item() == 0
    assert output.grad is not None
    assert torch.equal(output.grad, torch.zeros_like(output))


@all_losses
def test_invalid_pixels_have_no_influence(loss, outputs, planes):
    torch.manual_seed(0)
    output, target = torch.randn(2, outputs, 3, 4), torch.randint(0, 2, (2, planes, 3, 4)).float()
    target[:, :, 0] = 255
    changed = output.clone()
    changed[:, :, 0] *= -7
    changed.requires_grad_()
    value = loss(changed, target)
    value.backward()
    assert changed.grad is not None
    assert value.item() == pytest.approx(loss(output, target).item(), rel=1e-6)
    assert not changed.grad[:, :, 0].any()
    assert changed.grad[:, :, 1:].any()
    assert value.item() == pytest.approx(loss(output[:, :, 1:], target[:, :, 1:]).item(), rel=1e-6)


@all_losses
def test_low_precision_outputs_are_scored_in_float32(loss, outputs, planes):
    torch.manual_seed(1)
    output, target = torch.randn(2, outputs, 5, 5).bfloat16(), torch.randint(0, 2, (2, planes, 5, 5)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(output, target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(output.float(), target).item(), rel=1e-6)


@all_losses
def test_normaliser_counts_pixels_of_the_batch_not_of_each_image(loss, outputs, planes):
    torch.manual_seed(2)
    output = torch.randn(1, outputs, 2, 6)
    target = torch.randint(0, 2, (1, planes, 2, 6)).float()
    target[:, :, 0, :5] = 255
    as_two = [x.transpose(0, 2).reshape(2, -1, 1, 6) for x in (output, target)]  # the rows as two images
    assert loss(*as_two).item() == pytest.approx(loss(output, target).item(), rel=1e-6)


def test_boundary_loss_is_torchs_weighted_binary_cross_entropy():
    torch.manual_seed(3)
    logits, labels = 30 * torch.randn(2, 1, 6, 6), torch.rand(2, 1, 6, 6)  # soft labels, saturated logits
    reference = F.binary_cross_entropy_with_logits(logits.double(), labels.double(), pos_weight=torch.tensor(0.8 / 0.2))
    assert boundary_loss(logits, labels, 0.8).item() == pytest.approx(0.2 * reference.item(), rel=1e-6)


def test_balanced_cross_entropy_is_the_explicit_formula():
    logits = torch.tensor([[0.0, 2.0, -1.0, 0.5], [1.0, 0.0, 0.0, 0.5]]).reshape(1, 2, 1, 4)
    target = torch.tensor([1.0, 0.0, 0.0, 255.0]).reshape(1, 1, 1, 4)
    each = [-torch.log_softmax(logits[0, :, 0, i], 0)[int(y)].item() for i, y in enumerate((1, 0, 0))]
    assert balanced_cross_entropy_loss(logits, target).item() == pytest.approx(
        (2 / 3 * each[0] + 1 / 3 * (each[1] + each[2])) / 3, rel=1e-6
    )


def test_normals_loss_ignores_length_of_output_and_survives_zero_vectors():
    output, target = tensor("normals_pred"), tensor("normals_gt")
    assert normals_loss(3 * output, target).item() == pytest.approx(normals_loss(output, target).item(), rel=1e-6)
    zero = torch.zeros(1, 3, 2, 2, requires_grad=True)
    value = normals_loss(zero, torch.tensor([0.0, 0.6, 0.8]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2))
    value.backward()
    assert value.item() == pytest.approx(1.4, rel=1e-6)
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_cross_entropy_rejects_a_class_beyond_the_outputs():
    with pytest.raises(IndexError):
        cross_entropy_loss(torch.zeros(1, 3, 2, 2), torch.full((1, 1, 2, 2), 7.0))


def test_a_normal_with_one_invalid_channel_is_invalid():
    output, target = tensor("normals_pred"), tensor("normals_gt")
    partly = target.clone()
    partly[:, 1][target[:, 1] == 255] = 0
    assert (partly == 255).any()
    assert torch.equal(normals_loss(output, partly), normals_loss(output, target))


def test_one_valid_pixel_is_divided_by_one():
    output, target = torch.tensor([[[[3.0, 9.0]]]]), torch.tensor([[[[1.0, 255.0]]]])
    assert l1_loss(output, target).item() == 2
    assert cross_entropy_loss(torch.zeros(1, 4, 1, 2), target).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("blank", [0, 40, 96])
@all_losses
def test_parts_that_divide_by_the_mean_count_have_the_wholes_mean(loss, outputs, planes, blank):
    generator = torch.Generator().manual_seed(blank)
    output = torch.randn(3, outputs, 8, 12, generator=generator)
    target = (torch.rand(3, planes, 8, 12, generator=generator) > 0.7).float()
    target[0].flatten(1)[:, :blank] = 255  # up to the whole first image
    target[1, 0, 0] = 255  # one channel is enough
    parts = list(zip(output.split([1, 2]), target.split([1, 2]), strict=True))
    mean = torch.stack([count_labels(part) for _, part in parts]).sum(0) / 2
    assert mean[0] * 2 == (target != 255).all(1).sum()
    losses = [loss(*part, labelled=mean) for part in parts]
    assert torch.stack(losses).mean() == pytest.approx(float(loss(output, target)), rel=1e-6)


@all_losses
def test_no_label_in_any_part_is_no_loss(loss, outputs, planes):
    output = torch.randn(1, outputs, 4, 4, requires_grad=True)
    found = loss(output, torch.full((1, planes, 4, 4), 255.0), labelled=torch.zeros(2))
    found.backward()
    assert found == 0
    assert output.grad.abs().max() == 0


def test_cosine_loss_is_one_minus_the_mean_cosine_of_labelled_pixels():
    generator = torch.Generator().manual_seed(0)
    output, target = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    target = F.normalize(target, dim=1)
    target[:, :, 0] = 255
    cosine = F.cosine_similarity(output, target, dim=1)[:, 1:]
    assert cosine_loss(output, target).item() == pytest.approx(1 - cosine.mean().item(), rel=1e-5)
    assert cosine_loss(7 * target, target).item() == pytest.approx(0, abs=1e-6)
