"""Evaluation-only ground truth: what boundary scores compare with, and which images they are taken over."""

import logging

import cv2
import numpy as np
import pytest
from helpers.miniature import SIZE, compose_config, write_miniature
from helpers.pascal_miniature import write_pascal_miniature
from PIL import Image
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.official import OFFICIAL, shipped_ids
from mtlsi_net.data.sampling import Draw
from mtlsi_net.engine.build import build_data, build_tasks


def build(name, root, *overrides):
    cfg = compose_config(f"data={name}", f"data.root={root}", "data.size=[64,64]", "data.num_workers=0", *overrides)
    return build_data(cfg, build_tasks(cfg))


def test_nyud_reference_is_the_stored_picture_whatever_the_transforms_do(tmp_path):
    root = write_miniature(tmp_path)
    data = build("nyud", root, "data.scale=0.5")
    (reference,) = data.datasets["val"][Draw(0, 0)]["references"].values()
    stored = np.asarray(Image.open(root / "edge" / f"{data.datasets['val'].ids[0]}.png"))
    assert reference.kind == "boundaries"
    np.testing.assert_array_equal(reference.maps, stored[None])


def test_pascal_reference_is_the_label_map(tmp_path):
    root = write_pascal_miniature(tmp_path / "data")
    data = build("pascal", root, f"paths.output_dir={tmp_path}")
    sample = data.datasets["val"][Draw(0, 0)]
    stored = io.loadmat(root / "pascal-context" / "trainval" / f"{sample['id']}.mat")["LabelMap"]
    assert sample["references"]["boundary"].kind == "labels"
    np.testing.assert_array_equal(sample["references"]["boundary"].maps, stored[None])


def test_training_samples_carry_none_and_batches_carry_lists(tmp_path):
    data = build("nyud", write_miniature(tmp_path))
    assert next(iter(data.train_dataloader()))["references"] == {}
    batch = next(iter(data.val_dataloader()))
    assert [reference.maps.shape for reference in batch["references"]["boundary"]] == [(1, *SIZE)]
    assert build("nyud", tmp_path, "~tasks.boundary").datasets["val"][Draw(0, 0)]["references"] == {}


def test_reference_of_another_size_is_refused(tmp_path):
    root = write_miniature(tmp_path)
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(root / "edge" / "0005.png")
    with pytest.raises(UserError, match=r"edge/0005.png: label of 10x12 pixels"):
        build("nyud", root).datasets["val"][Draw(0, 0)]


@pytest.mark.parametrize(("name", "everything"), [("nyud", 654), ("pascal", 2498)])
def test_the_whole_official_list_makes_the_score_less_makes_a_partial_one(name, everything):
    official = OFFICIAL[name]
    published, ids = shipped_ids(official.reference_list), official.ids("val")
    whole = official.score_groups(ids)
    assert sum("" in groups for groups in whole.values()) == everything
    assert {key for key, groups in whole.items() if "" in groups} == set(published)
    assert all(("all" in groups) == (name == "pascal") for groups in whole.values())

    one_less = official.score_groups([sample_id for sample_id in ids if sample_id != published[0]])
    assert sum("partial" in groups for groups in one_less.values()) == everything - 1
    assert not any("" in groups or "all" in groups for groups in one_less.values())
    assert official.score_groups(["a", "b"]) == {"a": ("partial",), "b": ("partial",)}


def test_pascal_images_outside_the_published_list_count_in_odsf_all_only():
    official = OFFICIAL["pascal"]
    unpublished = set(official.ids("val")) - set(shipped_ids("pascal_test_new"))
    assert len(unpublished) == 2607
    whole = official.score_groups(official.ids("val"))
    assert {whole[sample_id] for sample_id in unpublished} == {("all",)}


def groups_of(dataset):
    return [dataset[Draw(0, k)]["references"]["boundary"].groups for k in range(len(dataset))]


def test_what_is_there_of_an_official_set_is_partial_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        data = build("nyud", write_miniature(tmp_path), "data.estimate_images=1")
    assert "over 2 of 2 images end in _partial; those over the official 654 are published" in caplog.text
    assert groups_of(data.datasets["val"]) == [("partial", "subset"), ("partial",)]
    assert all(groups[0] == "partial" for groups in groups_of(data.datasets["train_scored"]))


def test_sets_without_published_numbers_are_scored_under_the_plain_name(tmp_path, caplog):
    data = build("rooms", write_miniature(tmp_path), "~data.prepare")
    assert all(groups == ("", "subset") for groups in groups_of(data.datasets["val"]))
    assert "published" not in caplog.text


def test_images_without_a_label_or_a_prediction_make_the_score_a_partial_one(tmp_path, monkeypatch):
    root = write_miniature(tmp_path, val=3)
    monkeypatch.setattr("mtlsi_net.data.official.shipped_ids", lambda name: ["0005", "0006", "0007"])  # noqa: ARG005
    data = build("nyud", root, "data.allow_missing=true")
    whole = data.datasets["val"]
    assert [groups[0] for groups in groups_of(whole)] == ["", "", ""]
    lacking = data.scored_dataset(whole.reader, whole.ids, whole.pipeline, "val", lacking=["0006"])
    assert [groups[:1] for groups in groups_of(lacking)] == [("partial",), (), ("partial",)]
    (root / "edge" / "0007.png").unlink()
    unlabelled = data.scored_dataset(whole.reader, whole.ids, whole.pipeline, "val")
    assert [groups[:1] for groups in groups_of(unlabelled)] == [("partial",), ("partial",), ()]


def test_no_images_to_estimate_on_is_refused(tmp_path):
    with pytest.raises(UserError, match="estimate_images=0"):
        build("nyud", write_miniature(tmp_path), "data.estimate_images=0")


def test_missing_labels_leave_no_annotator(tmp_path):
    root = write_miniature(tmp_path)
    (root / "edge" / "0005.png").unlink()
    data = build("nyud", root, "data.allow_missing=true")
    assert data.datasets["val"][Draw(0, 0)]["references"]["boundary"].maps.shape == (0, *SIZE)
    metric = build_tasks(compose_config("data=nyud"))["boundary"].new_metric()
    first = next(iter(data.val_dataloader()))
    metric.update([first["image"][0, :1, :48]], first["references"]["boundary"])
    assert metric.images.sum() == 0


def test_enlarging_changes_no_reference(tmp_path):
    root = write_miniature(tmp_path)
    edge = cv2.imread(str(root / "edge" / "0005.png"), cv2.IMREAD_GRAYSCALE)
    (reference,) = build("nyud", root).datasets["val"][Draw(0, 0)]["references"].values()
    assert (reference.maps[0] == edge).all()


def test_boundaries_stored_with_one_bit_are_those_stored_with_eight(tmp_path):
    root = write_miniature(tmp_path)
    before = build("nyud", root).datasets["val"][Draw(0, 0)]
    path = root / "edge" / "0005.png"
    Image.fromarray(np.asarray(Image.open(path)) > 0).save(path)
    assert Image.open(path).mode == "1"
    after = build("nyud", root).datasets["val"][Draw(0, 0)]
    assert (after["targets"]["boundary"] == before["targets"]["boundary"]).all()
    np.testing.assert_array_equal(after["references"]["boundary"].maps, before["references"]["boundary"].maps)
