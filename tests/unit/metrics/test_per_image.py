import contextlib

import numpy as np
import pytest
import torch
from helpers.batches import DATA, example, tasks_of
from helpers.commands import context

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import Reference
from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure
from mtlsi_net.metrics.per_image import ImageSums, join, read_image_sums, write_image_sums
from mtlsi_net.tasks.metrics import TaskMetrics, postprocess


def fed(data, seeds, keep_images=True):
    """Return metrics that have seen batches of two images each."""
    metrics = TaskMetrics(tasks_of(data), keep_images=keep_images)
    for seed in seeds:
        outputs, batch = example(tasks_of(data), seed)
        metrics.update(postprocess(tasks_of(data), outputs), batch)
    return metrics


@pytest.mark.parametrize("data", DATA)
def test_sums_of_all_images_give_the_pooled_scores(data):
    metrics, plain = fed(data, range(3)), fed(data, range(3), keep_images=False)
    found, pooled = metrics.image_sums(), metrics.compute()
    assert found.ids == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert {key.partition("/")[0] for key in found.sums} == set(tasks_of(data))
    for key, (value,) in found.scores(np.ones((1, 6))).items():
        task, metric = key.split("/")
        assert value == pytest.approx(pooled[task][metric], rel=1e-12), key
    for task, scores in plain.compute().items():  # keeping images changes no score
        assert pooled[task] == pytest.approx(scores, rel=1e-12)


@pytest.mark.parametrize("data", DATA)
def test_one_image_weighed_twice_scores_as_if_it_were_there_twice(data):
    found = fed(data, [0, 1]).image_sums()
    twice = TaskMetrics(tasks_of(data))
    for seed in (0, 1, 1):
        outputs, batch = example(tasks_of(data), seed)
        twice.update(postprocess(tasks_of(data), outputs), batch)
    expected = twice.compute()
    for key, (value,) in found.scores(np.array([[1, 1, 2, 2]])).items():
        task, metric = key.split("/")
        assert value == pytest.approx(expected[task][metric], rel=1e-12), key
    for key, values in found.image_scores().items():
        assert values == pytest.approx([found.scores(row[None])[key][0] for row in np.eye(4)], rel=1e-12), key


def test_what_is_written_is_read(tmp_path):
    found = fed("pascal", [0]).image_sums()
    write_image_sums(tmp_path / "per_image.npz", found)
    again = read_image_sums(tmp_path / "per_image.npz")
    assert (again.ids, again.pooling) == (found.ids, found.pooling)
    assert all(np.array_equal(again.sums[key], own) for key, own in found.sums.items())


def test_bsds_rules_have_a_formula_of_their_own():
    rng = np.random.default_rng(0)
    metric = BoundaryFMeasure("bsds")
    for _ in range(3):
        truth = np.zeros((2, 20, 20), np.uint8)
        truth[:, :, 8:10] = 255
        metric.update([torch.from_numpy(rng.random((1, 20, 20)))], [Reference(truth, "boundaries")])
    sums = {f"boundary/{key}": value.numpy()[None] for key, value in metric.image_sums().items()}
    found = ImageSums(["a"], sums, {"boundary/odsF": metric.pooling})
    assert found.image_scores()["boundary/odsF"][0] == pytest.approx(float(metric.compute()["odsF"]), rel=1e-12)


def test_images_without_labels_have_no_score_and_groups_that_miss_add_nothing():
    zero = np.zeros((2, 2), np.int64)
    one = np.array([[1, 2], [0, 0]])
    found = join({"b": {"t/m": one}, "a": {}, "c": {"t/m": zero}}, {"t/m": "mean_ratio"})
    assert found.ids == ["a", "b", "c"]
    np.testing.assert_equal(found.image_scores()["t/m"], [np.nan, 0.25, np.nan])


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "per_image.npz"
    path.write_bytes(b"PK half a file")
    with pytest.raises(UserError, match=r"per_image\.npz cannot be read"):
        read_image_sums(path)
    write_image_sums(path, ImageSums(["a", "b"], {"t/m": np.zeros((3, 2))}, {"t/m": "ratio"}))
    with pytest.raises(UserError, match="inconsistent t/m"):
        read_image_sums(path)
    write_image_sums(path, ImageSums(["a", "b"], {"t/m": np.ones((2, 2))}, {"t/m": "ratio"}))
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes(255 - byte for byte in whole[place : place + 3]) + whole[place + 3 :])
        with contextlib.suppress(UserError):  # some bytes say nothing
            read_image_sums(path)


def _gather(rank, file, out):
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    write_image_sums(out / f"{rank}.npz", fed("nyud", [rank]).image_sums())
    torch.distributed.destroy_process_group()


def test_two_processes_gather_all_images(tmp_path):
    context()
    torch.multiprocessing.start_processes(_gather, (tmp_path / "store", tmp_path), 2, start_method="forkserver")
    first, second = (read_image_sums(tmp_path / f"{rank}.npz") for rank in range(2))
    alone = fed("nyud", [0, 1]).image_sums()
    assert first.ids == second.ids == alone.ids
    assert all(np.array_equal(first.sums[key], own) for key, own in alone.sums.items())
