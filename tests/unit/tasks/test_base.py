import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import Reference
from mtlsi_net.tasks.base import Task
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.colors import INVALID_COLOR
from mtlsi_net.tasks.depth import DepthTask
from mtlsi_net.tasks.normals import NormalsTask
from mtlsi_net.tasks.saliency import SaliencyTask
from mtlsi_net.tasks.semseg import HumanPartsTask, SemsegTask

TASKS: dict[str, Task] = {
    "semseg": SemsegTask("nyud40"),
    "human_parts": HumanPartsTask(),
    "depth": DepthTask(),
    "normals": NormalsTask(),
    "boundary": BoundaryTask(),
    "saliency": SaliencyTask(),
}
all_tasks = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
METRIC_KEYS = {
    "semseg": {"mIoU", "mIoU_present", "pixel_accuracy"},
    "human_parts": {"mIoU", "mIoU_present", "pixel_accuracy"},
    "depth": {"rmse", "abs_err", "abs_rel", "log_rmse", "sq_rel", "delta1", "delta2", "delta3"},
    "normals": {"mean", "median", "rmse", "within_11.25", "within_22.5", "within_30"},
    "saliency": {"maxF", "maxF_invpt"},
}


def random_target(task: Task, seed: int = 0, batch: int = 2) -> Tensor:
    """Return labels (batch, C, 8, 10) of the task's kind, some of them invalid."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, task.target.channels, 8, 10)
    noise = torch.rand(shape, generator=generator)
    kinds = {
        "classes": lambda: (noise**2 * (task.target.num_classes or 0)).floor(),
        "binary": lambda: (noise < 0.3).float(),
        "scalar": lambda: 1 + 8 * noise,
        "vector": lambda: torch.nn.functional.normalize(noise + torch.tensor([0.0, 0.2, 0.5])[:, None, None], dim=1),
    }
    invalid = torch.rand((batch, 1, 8, 10), generator=generator) < 0.2
    return torch.where(invalid, 255.0, kinds[task.target.kind]())


def constant_output(prior: Tensor, like: Tensor) -> Tensor:
    return prior[None, :, None, None].expand(like.shape[0], -1, *like.shape[-2:])


@all_tasks
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_fit_the_targets(task, dtype):
    output, target = torch.randn(1, task.channels, 8, 10).to(dtype), random_target(task, batch=1)
    assert task.postprocess(output).shape == target.shape
    loss = task.loss(output, target)
    assert loss.dtype == torch.float32
    assert loss.ndim == 0
    assert loss.isfinite()


@all_tasks
def test_loss_reaches_every_output_channel(task):
    output = torch.randn(2, task.channels, 8, 10, requires_grad=True)
    task.loss(output, random_target(task)).backward()
    assert output.grad is not None
    assert output.grad.abs().sum(dim=(0, 2, 3)).gt(0).all()


def test_postprocessed_values_have_their_units():
    torch.manual_seed(0)
    draw = {name: task.postprocess(5 * torch.randn(2, task.channels, 8, 10)) for name, task in TASKS.items()}
    assert draw["semseg"].dtype == torch.int64
    assert draw["depth"].min() == 0
    torch.testing.assert_close(draw["normals"].norm(dim=1), torch.ones(2, 8, 10))
    logits = torch.tensor([[1.0], [3.0]]).reshape(1, 2, 1, 1)
    assert TASKS["saliency"].postprocess(logits).item() == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert TASKS["boundary"].postprocess(logits[:, :1]).item() == pytest.approx(1 / (1 + np.exp(-1.0)))


@pytest.mark.parametrize("name", METRIC_KEYS)
def test_metric_has_the_promised_scores_and_a_perfect_prediction_is_perfect(name):
    task = TASKS[name]
    target = random_target(task)
    metric = task.new_metric()
    metric.update(torch.where(target == 255, 0.0, target), target)
    scores = {key: value.item() for key, value in metric.compute().items()}
    assert set(scores) == METRIC_KEYS[name]
    if "scored" not in vars(task):  # class maps: classes that do not occur count as 0
        assert scores[task.main_metric] == pytest.approx(float(task.higher_is_better), abs=1e-6)
    else:
        assert scores["mIoU_present"] == scores["pixel_accuracy"] == 1
    assert task.new_metric() is not metric


def padded_boundary_batch(stored, top, left):
    """Return a batch of one image padded by ``top`` and ``left`` pixels (and one more at the other sides)."""
    height, width = stored.shape
    valid = torch.zeros(1, 1, height + 2 * top + 1, width + 2 * left + 1, dtype=torch.bool)
    valid[..., top : top + height, left : left + width] = True
    return {"valid": valid, "references": {"boundary": [Reference(stored[None], "boundaries")]}}


def test_boundaries_are_scored_at_the_size_of_their_files_without_padding():
    rng = np.random.default_rng(0)
    stored = (255 * (rng.random((40, 48)) < 0.05)).astype(np.uint8)
    soft = torch.tensor(rng.random((1, 1, 40, 48)), dtype=torch.float32)
    task = BoundaryTask(preset="plain")
    native, padded, reduced = (task.new_metric() for _ in range(3))
    native.update(list(soft), [Reference(stored[None], "boundaries")])
    task.update(padded, F.pad(soft, (3, 4, 2, 3), value=0.9), padded_boundary_batch(stored, 2, 3), "boundary")
    assert padded.compute() == native.compute()

    enlarged = cv2.resize(stored, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    task.update(
        reduced,
        soft,
        {
            **padded_boundary_batch(stored, 0, 0),
            "valid": torch.ones(1, 1, 40, 48, dtype=torch.bool),
            "references": {"boundary": [Reference(enlarged[None], "boundaries")]},
        },
        "boundary",
    )
    twice = task.new_metric()
    smooth = cv2.resize(soft[0, 0].numpy(), (96, 80), interpolation=cv2.INTER_LINEAR)
    twice.update([torch.tensor(smooth)[None]], [Reference(enlarged[None], "boundaries")])
    assert reduced.compute()["odsF"] == pytest.approx(float(twice.compute()["odsF"]), abs=0.01)


def test_main_score_is_named_after_the_images_it_is_taken_over():
    task = BoundaryTask()
    assert task.main_key({"odsF_all": 0, "odsF": 0, "odsF_subset": 0}) == "odsF"
    assert task.main_key({"odsF_partial": 0, "odsF_subset": 0}) == "odsF_partial"
    assert task.main_key({"odsF_subset": 0}) == "odsF_subset"
    assert task.main_key({"odsF": 0, "odsF_subset": 0}, estimate=True) == "odsF_subset"
    assert TASKS["depth"].main_key({"abs_rel": 0, "rmse": 0}, estimate=True) == "rmse"


# -- constructors ---------------------------------------------------------------------------------------------------


def test_scored_classes_become_indices():
    task = SemsegTask("nyud40", scored_classes=["floor", "lamp"])
    assert task.scored == [1, 34]
    metric = task.new_metric()
    target = torch.full((1, 1, 2, 2), 34.0)
    metric.update(target.long(), target)
    assert metric.compute()["mIoU"].item() == 0.5


def test_own_classes():
    task = SemsegTask(["road", "sky", "tree"])
    assert (task.channels, task.target.num_classes) == (3, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SemsegTask("nyu40"), "classes='nyu40' is not a known class set; did you mean 'nyud40'"),
        (lambda: SemsegTask("nyud40", ["florr"]), "scored_classes: 'florr' is not known; did you mean 'floor'"),
        (lambda: SemsegTask("nyud40", []), "at least one"),
        (lambda: SemsegTask("nyud40", ["bed", "bed"]), "only once"),
        (lambda: SemsegTask(["a", "b", "a"]), "classes: a given more than once"),
        (lambda: SemsegTask(["a"]), "1 names given"),
        (lambda: SemsegTask([str(i) for i in range(1001)]), "1001 names given"),
        (lambda: DepthTask((3.0, 3.0)), r"depth_range=\[3.0, 3.0\] is empty"),
        (lambda: BoundaryTask(positive_weight=1.0), "positive_weight=1.0; give"),
    ],
)
def test_bad_arguments_are_explained(make, message):
    with pytest.raises(UserError, match=message):
        make()


# -- priors ---------------------------------------------------------------------------------------------------------


@all_tasks
def test_statistics_of_parts_add_up(task):
    target = random_target(task)
    parts = sum(task.statistics(one[None]) for one in target)
    assert task.statistics(target).dtype == torch.float64
    torch.testing.assert_close(parts, task.statistics(target), rtol=1e-12, atol=0)


@all_tasks
def test_invalid_labels_have_no_statistics_and_no_prior(task):
    nothing = task.statistics(torch.full((1, task.target.channels, 4, 4), 255.0))
    assert not nothing.any()
    with pytest.raises(UserError, match=r"no valid pixel.*leave the task out"):
        task.prior(nothing)


@all_tasks
def test_prior_fits_the_head(task):
    prior = task.prior(task.statistics(random_target(task)))
    assert prior.shape == (task.channels,)
    assert prior.dtype == torch.float32
    assert prior.isfinite().all()


def error_of_constant(task: Task, output: Tensor, target: Tensor) -> float:
    """Return what the prior is claimed to minimise: the loss; squared error where the prior is a mean; see saliency."""
    valid = (target != 255).all(dim=1, keepdim=True)
    if task.target.kind in ("scalar", "vector"):
        return ((task.postprocess(output) - target).square() * valid).sum().item()
    if task.channels == 2:
        return torch.nn.functional.cross_entropy(output, target[:, 0].long(), ignore_index=255).item()
    return task.loss(output, target).item()


@pytest.mark.parametrize("task", [*(TASKS[n] for n in TASKS if n != "semseg"), SemsegTask(["a", "b", "c"])])
def test_no_other_constant_beats_the_prior(task):
    target = random_target(task)
    prior = task.prior(task.statistics(target))
    best = error_of_constant(task, constant_output(prior, target), target)
    for channel in range(task.channels):
        for step in (-0.1, 0.1):
            other = prior.clone()
            other[channel] += step
            assert error_of_constant(task, constant_output(other, target), target) > best


def test_constant_predictions_are_what_one_would_name():
    semseg, depth, normals = SemsegTask(["a", "b", "c"]), DepthTask(), NormalsTask()
    labels = torch.tensor([2.0, 2, 1, 255]).reshape(1, 1, 2, 2)
    prior = semseg.prior(semseg.statistics(labels))
    assert semseg.postprocess(prior[None, :, None, None]).item() == 2
    assert prior.exp().tolist() == pytest.approx([1e-4, 1 / 3, 2 / 3])  # a class never seen keeps a finite bias
    assert depth.prior(depth.statistics(labels)).tolist() == pytest.approx([5 / 3])
    vectors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [255, 255, 255]]).T.reshape(1, 3, 1, 3)
    assert normals.prior(normals.statistics(vectors)).tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0])


def test_boundary_prior_weighs_as_the_loss_does():
    labels = torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 2, 2)
    task = BoundaryTask(positive_weight=0.5)
    assert task.prior(task.statistics(labels)).item() == pytest.approx(np.log(1 / 3), rel=1e-6)
    task = BoundaryTask(positive_weight=0.75)
    assert task.prior(task.statistics(labels)).item() == pytest.approx(0, abs=1e-6)


# -- pictures -------------------------------------------------------------------------------------------------------


@all_tasks
def test_targets_and_predictions_become_pictures(task):
    target = random_target(task)[0]
    invalid = (target == 255).any(dim=0).numpy()
    picture = task.colorize(target)
    assert (picture.shape, picture.dtype) == ((8, 10, 3), np.uint8)
    assert (picture[invalid] == INVALID_COLOR).all()
    assert not (picture[~invalid] == INVALID_COLOR).all(axis=1).any()
    prediction = task.postprocess(torch.randn(1, task.channels, 8, 10))[0]
    assert task.colorize(prediction).shape == (8, 10, 3)


@pytest.mark.parametrize("name", ["depth", "normals", "boundary", "saliency"])
def test_values_that_are_no_numbers_are_drawn_as_invalid(name):
    value = torch.full((TASKS[name].target.channels, 2, 2), torch.nan)
    assert (TASKS[name].colorize(value) == INVALID_COLOR).all()


def test_colours_are_the_fields():
    assert TASKS["normals"].colorize(torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1)).tolist() == [[[0, 128, 255]]]
    assert TASKS["boundary"].colorize(torch.tensor([[[0.0, 0.2, 1.0]]]))[0, :, 0].tolist() == [0, 51, 255]
    near, far, beyond = DepthTask((1.0, 5.0)).colorize(torch.tensor([[[0.5, 5.0, 9.0]]]))[0].tolist()
    assert near == [68, 1, 84]  # viridis' ends
    assert far == beyond == [253, 231, 37]
