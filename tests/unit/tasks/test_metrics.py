import numpy as np
import pytest
from helpers.batches import DATA, example, tasks_of

from mtlsi_net.tasks.metrics import TaskMetrics, postprocess


@pytest.mark.parametrize("data", DATA)
def test_parts_that_are_merged_score_like_the_whole(data):
    tasks = tasks_of(data)
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
    tasks = tasks_of("pascal")
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


@pytest.mark.parametrize("data", DATA)
def test_published_metrics_are_all_there(data):
    published = {
        "semseg": {"mIoU", "mIoU_present", "pixel_accuracy"},
        "human_parts": {"mIoU", "mIoU_present", "pixel_accuracy"},
        "depth": {"rmse", "abs_rel", "log_rmse", "delta1", "delta2", "delta3"},
        "normals": {"mean", "median", "within_11.25", "within_22.5", "within_30"},
        "boundary": {"odsF"},
        "saliency": {"maxF", "maxF_invpt"},
    }
    metrics = TaskMetrics(tasks_of(data))
    outputs, batch = example(tasks_of(data), 0)
    metrics.update(postprocess(tasks_of(data), outputs), batch)
    for name, scores in metrics.compute().items():
        assert published[name] <= set(scores)
