import numpy as np
import pytest
import torch
from helpers.miniature import compose_config

from mtlsi_net import assemble
from mtlsi_net.specs import Reference
from mtlsi_net.tasks.scores import TaskMetrics, postprocess

TASKS = {name: assemble.build_tasks(compose_config(f"data={name}")) for name in ("nyud", "pascal")}


def example(tasks, seed, size=(24, 32)):
    """Return random raw outputs of two images, and a batch of labels with padding on the right."""
    generator = torch.Generator().manual_seed(seed)
    outputs = {name: torch.randn(2, task.channels, *size, generator=generator) for name, task in tasks.items()}
    kinds = {
        "classes": lambda spec: torch.randint(0, spec.num_classes or 1, (2, 1, *size), generator=generator).float(),
        "binary": lambda _: (torch.rand(2, 1, *size, generator=generator) < 0.1).float(),
        "scalar": lambda _: torch.rand(2, 1, *size, generator=generator) * 5 + 0.5,
        "vector": lambda _: torch.nn.functional.normalize(torch.randn(2, 3, *size, generator=generator), dim=1),
    }
    targets = {name: kinds[task.target.kind](task.target) for name, task in tasks.items()}
    valid = torch.ones(2, 1, *size, dtype=torch.bool)
    valid[..., -3:] = False
    for target in targets.values():
        target[..., -3:] = 255
    edges = (targets["boundary"][..., :-3] * 255).numpy().astype(np.uint8)
    references = {"boundary": [Reference(edge, "boundaries") for edge in edges]}
    return outputs, {"targets": targets, "valid": valid, "references": references}


@pytest.mark.parametrize("data", TASKS)
def test_parts_that_are_merged_score_like_the_whole(data):
    tasks = TASKS[data]
    whole, parts = TaskMetrics(tasks), [TaskMetrics(tasks) for _ in range(3)]
    for seed in range(2):  # the third part sees nothing
        outputs, batch = example(tasks, seed)
        values = postprocess(tasks, outputs)
        whole.update(values, batch)
        parts[seed].update(values, batch)
    merged = TaskMetrics(tasks)
    for part in parts:
        merged.merge(part)
    for name, scores in whole.compute().items():
        assert merged.compute()[name] == pytest.approx(scores, rel=1e-12), name


def test_scores_of_classes_are_those_that_miou_averages():
    tasks = TASKS["pascal"]
    metrics = TaskMetrics(tasks)
    outputs, batch = example(tasks, 0)
    metrics.update(postprocess(tasks, outputs), batch)
    scores, classes = metrics.compute(), metrics.compute_classes()
    assert set(classes) == {"semseg", "human_parts"}
    for name, found in classes.items():
        p, t = outputs[name].argmax(1).numpy(), batch["targets"][name][:, 0].numpy()
        for k, class_name in enumerate(tasks[name].class_names):
            hit = ((p == k) & (t == k)).sum()
            wrong = ((p == k) != (t == k))[t != 255].sum()
            assert found[class_name] == pytest.approx({"IoU": hit / (hit + wrong), "pixels": (t == k).sum()})
        assert np.mean([values["IoU"] for values in found.values()]) == pytest.approx(scores[name]["mIoU"])


@pytest.mark.parametrize("data", TASKS)
def test_published_metrics_are_all_there(data):
    published = {
        "semseg": {"mIoU", "mIoU_present", "pixel_accuracy"},
        "human_parts": {"mIoU", "mIoU_present", "pixel_accuracy"},
        "depth": {"rmse", "abs_rel", "log_rmse", "delta1", "delta2", "delta3"},
        "normals": {"mean", "median", "within_11.25", "within_22.5", "within_30"},
        "boundary": {"odsF"},
        "saliency": {"maxF", "maxF_invpt"},
    }
    metrics = TaskMetrics(TASKS[data])
    outputs, batch = example(TASKS[data], 0)
    metrics.update(postprocess(TASKS[data], outputs), batch)
    for name, scores in metrics.compute().items():
        assert published[name] <= set(scores)
