"""Scoring saved boundary maps, as ``python -m mtlsi_net.boundary`` does."""

import csv
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers.commands import forked_workers
from helpers.miniature import compose_config
from PIL import Image
from scipy import io

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import Reference
from mtlsi_net.data.official import shipped_ids
from mtlsi_net.engine.boundary_files import check_ids
from mtlsi_net.engine.score_boundaries import score_folders
from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure

FIXTURE = Path(__file__).parents[1] / "fixtures" / "edge"
SIZE = (40, 56)


class Folders(NamedTuple):
    pred: Path
    gt: Path


def random_maps(seed=0, names=("a", "b", "c")):
    """Return id -> (prediction, ground truth), uint8."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.integers(0, 256, SIZE).astype(np.uint8), (255 * (rng.random(SIZE) < 0.05)).astype(np.uint8))
        for name in names
    }


@pytest.fixture
def folders(tmp_path):
    """Return folders of predictions and ground truths of three images."""
    pred, gt = tmp_path / "pred", tmp_path / "gt"
    pred.mkdir(), gt.mkdir()
    for name, (soft, truth) in random_maps().items():
        Image.fromarray(soft).save(pred / f"{name}.png")
        Image.fromarray(truth).save(gt / f"{name}.png")
    return pred, gt


def score(pred, gt, preset="plain", *overrides):
    return score_folders(
        compose_config(
            f"pred={pred}",
            f"gt={gt}",
            f"preset={preset}",
            f"out={pred.parent}/out",
            "workers=1",
            "progress=false",
            *overrides,
            name="boundary",
        )
    )


def in_memory(maps, preset="plain"):
    metric = BoundaryFMeasure(preset)
    for soft, truth in maps.values():
        probability = (torch.from_numpy(soft)[None].double() + 0.25).float() / 255  # quantised back to soft
        metric.update([probability], [Reference(truth[None], "boundaries")])
    return {key: float(value) for key, value in metric.compute().items()}


@pytest.mark.parametrize("preset", ["plain", "nyud", "bsds"])
def test_files_score_as_tensors_do(folders, preset):
    assert score(*folders, preset).scores == in_memory(random_maps(), preset)


def test_what_it_leaves(folders):
    result = score(*folders)
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["odsF"] == result.value == result.scores["odsF"]
    assert summary["preset"] == "plain"
    assert "commit" in summary["run"]
    assert summary["run"]["seed"] is None
    with (result.folder / "counts.csv").open() as file:
        counts = np.array([[float(cell) for cell in row] for row in list(csv.reader(file))[1:]])
    assert counts.shape == (99, 5)
    recall, precision = counts[:, 1] / counts[:, 2], counts[:, 3] / np.maximum(counts[:, 4], 1)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert f.max() == pytest.approx(summary["odsF"], abs=1e-12)
    with (result.folder / "per_image.csv").open() as file:
        images = list(csv.DictReader(file))
    assert [row["id"] for row in images] == ["a", "b", "c"]
    hits, truths, right, predicted = (sum(int(row[key]) for row in images) for key in ("cntR", "sumR", "cntP", "sumP"))
    r, p = hits / truths, right / predicted
    assert 2 * p * r / (p + r) == pytest.approx(summary["oisF"], abs=1e-12)
    assert Image.open(result.folder / "precision_recall.png").width == 600


def test_processes_score_as_one_does(folders):
    pred, gt = folders
    for k in range(9):  # more than one process takes at a time
        shutil.copy(pred / "a.png", pred / f"d{k}.png")
        shutil.copy(gt / "a.png", gt / f"d{k}.png")
    with forked_workers():
        assert score(pred, gt, "plain", "workers=2").scores == score(pred, gt).scores


def write_bsds(path, maps):
    cells = np.empty((1, len(maps)), object)
    for k, truth in enumerate(maps):
        cells[0, k] = {"Segmentation": np.zeros(SIZE, np.uint16), "Boundaries": (truth > 0).astype(np.uint8)}
    io.savemat(path, {"groundTruth": cells})


def test_several_annotators_as_pictures_and_as_bsds_files(folders):
    pred, gt = folders
    second = random_maps(seed=1)
    pictures, bsds = gt.parent / "pictures", gt.parent / "bsds"
    pictures.mkdir(), bsds.mkdir()
    metric = BoundaryFMeasure("bsds")
    for name, (soft, truth) in random_maps().items():
        maps = [truth, second[name][1]]
        for k, own in enumerate(maps):
            Image.fromarray(own // 255).save(pictures / f"{name}_{k}.png")  # {0, 1} serves as well as {0, 255}
        write_bsds(bsds / f"{name}.mat", maps)
        probability = (torch.from_numpy(soft)[None].double() + 0.25).float() / 255
        metric.update([probability], [Reference(np.stack(maps), "boundaries")])
    expected = {key: float(value) for key, value in metric.compute().items()}
    assert score(pred, pictures, "bsds").scores == expected
    assert score(pred, bsds, "bsds").scores == expected


def test_label_maps_of_pascal_as_mat_and_as_pictures(folders):
    pred, gt = folders
    mats, pictures = gt.parent / "mats", gt.parent / "pictures"
    mats.mkdir(), pictures.mkdir()
    for k, name in enumerate(random_maps()):
        labels = np.ones(SIZE, np.uint8)
        labels[:, 10 + k :] = 7
        io.savemat(mats / f"{name}.mat", {"LabelMap": labels})
        Image.fromarray(labels).save(pictures / f"{name}.png")
    first, second = score(pred, mats, "pascal").scores, score(pred, pictures, "pascal").scores
    assert first == second
    counts = (pred.parent / "out" / "counts.csv").read_text().splitlines()
    assert int(counts[1].split(",")[2]) == 3 * SIZE[0]  # one straight line in each image


def test_the_rules_can_be_changed(folders):
    result = score(*folders, "nyud", "max_dist=0.02", "nms=false", "thin=false", "compare=ge", "thresholds=[0.5,0.75]")
    rules = json.loads((result.folder / "summary.json").read_text())["rules"]
    assert (rules["max_dist"], rules["nms"], rules["thin"], rules["compare"], rules["thresholds"]) == (
        0.02,
        False,
        False,
        "ge",
        2,
    )
    assert len((result.folder / "counts.csv").read_text().splitlines()) == 3


def as_ids(folders, ids):
    pred, gt = folders
    for name, sample_id in zip("abc", ids, strict=True):
        for folder in (pred, gt):
            (folder / f"{name}.png").rename(folder / f"{sample_id}.png")
    return pred, gt


def test_a_part_of_the_official_list_is_partial_and_said(folders, caplog):
    result = score(*as_ids(folders, shipped_ids("nyud_val")[:3]), "nyud")
    assert (result.name, result.scores["images_partial"]) == ("odsF_partial", 3)
    assert "3 images count, of the 654 that are published; without" in caplog.text


def test_the_official_list_makes_the_score(folders, monkeypatch):
    three = shipped_ids("nyud_val")[:3]
    monkeypatch.setattr("mtlsi_net.data.official.shipped_ids", lambda name: three)  # noqa: ARG005 - the function's signature
    assert score(*as_ids(folders, three), "nyud").name == "odsF"


def test_ids_choose_the_images(folders, tmp_path):
    pred, gt = folders
    (tmp_path / "ids.txt").write_text("a\nb\n")
    (pred / "c.png").unlink()
    assert score(pred, gt, "plain", f"ids={tmp_path}/ids.txt").scores["images"] == 2


def test_ids_with_spaces_are_whole_lines(tmp_path):
    (tmp_path / "ids.txt").write_text("living room 1\nliving room 2.png\n1\n3 4\n")
    check_ids(["living room 1", "living room 2", "1", "3", "4"], tmp_path / "ids.txt")


CASES = {
    "size": (
        lambda d: Image.fromarray(np.zeros((8, 9), np.uint8)).save(d.pred / "b.png"),
        r"b\.png.*\(8x9 and 40x56\)",
    ),
    "tiny": (
        lambda d: Image.fromarray(np.zeros((2, 9), np.uint8)).save(d.pred / "b.png"),
        r"b\.png: 2x9 pixels are too few",
    ),
    "colour": (
        lambda d: Image.fromarray(np.full((*SIZE, 3), (0, 9, 255), np.uint8)).save(d.pred / "b.png"),
        r"b\.png: .*colours",
    ),
    "corrupt": (lambda d: (d.pred / "b.png").write_bytes(b"no picture"), r"b\.png: cannot be read as an image"),
    "grey truth": (
        lambda d: Image.fromarray(np.full(SIZE, 77, np.uint8)).save(d.gt / "b.png"),
        r"b\.png: ground truth holds 1 values \(77\).*truth=labels",
    ),
    "no truth": (lambda d: (d.gt / "b.png").unlink(), r"1 predictions have no ground truth \(b\)"),
    "no prediction": (lambda d: (d.pred / "b.png").unlink(), r"1 ground truths have no prediction \(b\.png\)"),
    "empty predictions": (lambda d: [f.unlink() for f in d.pred.iterdir()], r"pred=.* holds no PNG"),
    "no folder": (lambda d: shutil.rmtree(d.pred), r"pred=.* is no folder"),
    "no truth folder": (lambda d: shutil.rmtree(d.gt), r"gt=.* is no folder"),
    "empty truths": (lambda d: [f.unlink() for f in d.gt.iterdir()], r"3 predictions have no ground truth"),
    "foreign mat": (
        lambda d: ((d.gt / "b.png").unlink(), io.savemat(d.gt / "b.mat", {"x": 1})),
        r"b\.mat: contains no 'groundTruth' or 'LabelMap'",
    ),
    "broken mat": (
        lambda d: ((d.gt / "b.png").unlink(), io.savemat(d.gt / "b.mat", {"groundTruth": np.zeros(3)})),
        r"b\.mat: 'groundTruth' is not BSDS's structure",
    ),
    "annotators' sizes": (
        lambda d: (
            (d.gt / "b.png").rename(d.gt / "b_0.png"),
            Image.fromarray(np.zeros((8, 9), np.uint8)).save(d.gt / "b_1.png"),
        ),
        r"b_0\.png: annotators' maps differ in size",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(folders, case):
    change, message = CASES[case]
    change(Folders(*folders))
    with pytest.raises(UserError, match=message) as error:
        score(*folders)
    assert "\n" not in str(error.value)
    assert not (folders[0].parent / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("a b", r"1 predictions are not in the list of ids \(c\)"),
        ("a b c d", r"1 listed ids have no prediction \(d\)"),
        ("", "lists no image"),
    ],
)
def test_lists_that_do_not_fit(folders, tmp_path, ids, message):
    (tmp_path / "ids.txt").write_text(ids)
    with pytest.raises(UserError, match=message):
        score(*folders, "plain", f"ids={tmp_path}/ids.txt")


def test_predictions_outside_the_official_list(folders):
    with pytest.raises(UserError, match=r"1 predictions are not in the official test list of nyud \(zzz\)"):
        score(*as_ids(folders, [*shipped_ids("nyud_val")[:2], "zzz"]), "nyud")


def test_boundaries_are_not_taken_for_maps_of_segments(folders):
    with pytest.raises(UserError, match=r"hold only 0 and 255.*truth=boundaries"):
        score(*folders, "pascal")


def test_of_two_files_of_one_id_the_picture_counts(folders):
    pred, gt = folders
    io.savemat(gt / "a.mat", {"x": 1})
    with pytest.raises(UserError, match=r"1 ground truths have no prediction \(a\.mat\)"):
        score(pred, gt)


def test_unknown_preset_and_missing_settings(folders):
    with pytest.raises(UserError, match="preset=nyu is not known; did you mean 'nyud'"):
        score(*folders, "nyu")
    with pytest.raises(UserError, match="gt, preset must be given"):
        score_folders(compose_config(f"pred={folders[0]}", name="boundary"))


@pytest.mark.filterwarnings("error")
def test_empty_truths_and_predictions_score_zero(folders):
    pred, gt = folders
    for name in "abc":
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(gt / f"{name}.png")
    assert score(pred, gt).value == 0
    for name in "abc":
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(pred / f"{name}.png")
    assert score(pred, gt).value == 0


def test_real_boundaries_score_themselves(real_data, tmp_path):
    gt = real_data / "NYUDv2_mini" / "edge"
    pred = tmp_path / "pred"
    pred.mkdir()
    for path in sorted(gt.iterdir())[:3]:
        shutil.copy(path, pred / path.name)
    assert score(pred, gt, "nyud").value > 0.9


def test_predictions_of_0_and_1_are_said_in_one_line(folders, caplog):
    pred, gt = folders
    for path in pred.iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 200).astype(np.uint8)).save(path)
    score(pred, gt)
    assert "the largest value of the first 3 predictions is 1, a share of 1/255" in caplog.text
