"""Saved predictions are scored as evaluate scores the network that made them."""

import csv
import json
import logging
import shutil

import numpy as np
import pytest
from helpers.documents import documented_command, run
from helpers.miniature import compose_config, short_overrides
from helpers.pascal_miniature import write_pascal_miniature
from helpers.saved import save_as_ours, save_as_peers
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.build import build_data, build_tasks
from mtlsi_net.engine.evaluate import evaluate, restore
from mtlsi_net.engine.score import score
from mtlsi_net.engine.train import train


class Evaluated:
    """A trained network: its data, evaluate's scores, and its predictions in both layouts."""

    def __init__(self, name, root, checkpoint, folder):
        self.name, self.root = name, root
        checkpoint = f"ckpt={checkpoint}"
        quiet = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "data.num_workers=0")
        found = evaluate(compose_config(checkpoint, f"paths.run_dir={folder / 'evaluated'}", *quiet, name="evaluate"))
        self.scores = json.loads(found.folder.metrics.read_text())["last"]["val"]
        restored = restore(compose_config(checkpoint, f"paths.run_dir={folder / 'again'}", *quiet, name="evaluate"))
        self.saved = {
            "peers": save_as_peers(restored, folder / "peers"),
            "ours": save_as_ours(restored, folder / "ours"),
        }


@pytest.fixture(scope="module")
def nyud(trained, tmp_path_factory):
    return Evaluated("nyud", trained.data, trained.checkpoint, tmp_path_factory.mktemp("nyud"))


@pytest.fixture(scope="module")
def pascal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pascal")
    root = write_pascal_miniature(folder / "data")
    overrides = [o for o in short_overrides(root, folder / "run", steps=20) if not o.startswith("experiment=")]
    larger = ("data.size=[64,80]", "trainer.val_check_interval=20")  # so that there is padding to cut away
    run = train(compose_config("experiment=pascal_overfit", *overrides, *larger)).folder
    return Evaluated("pascal", root, run.last, folder)


def scored(evaluated, pred, folder, *overrides):
    place = (f"data={evaluated.name}", f"data.root={evaluated.root}", f"pred={pred}", f"paths.run_dir={folder}")
    return score(compose_config(*place, "progress=false", *overrides, name="score"))


@pytest.fixture
def peers(nyud, tmp_path):
    """Return a copy of the peers' layout, to be damaged."""
    return shutil.copytree(nyud.saved["peers"], tmp_path / "peers")


EIGHT_BITS = {"saliency": 0.02, "normals": 0.3}
"""What 8 bits may change: a share of the pixels near a threshold; degrees and shares of vectors half a step off."""


@pytest.mark.parametrize(
    ("data", "layout", "workers"),
    [("nyud", "peers", 1), ("nyud", "ours", 3), ("pascal", "peers", 3), ("pascal", "ours", 1)],
)
def test_the_scores_are_those_of_evaluate(data, layout, workers, request, tmp_path):
    evaluated = request.getfixturevalue(data)
    found = scored(evaluated, evaluated.saved[layout], tmp_path, f"workers={workers}").scores
    assert found.keys() == evaluated.scores.keys()
    for name, expected in evaluated.scores.items():
        eight_bits = name == "saliency" or (name, layout) == ("normals", "peers")
        near = {"abs": EIGHT_BITS[name]} if eight_bits else {"rel": 1e-6}
        assert found[name] == pytest.approx(expected, **near), name


def test_the_run_folder_is_that_of_evaluate(nyud, tmp_path):
    result = scored(nyud, nyud.saved["ours"], tmp_path, "print_classes=true")
    metrics = json.loads(result.folder.metrics.read_text())
    assert set(metrics) == {"last"}
    assert metrics["last"]["val"]["semseg"]["mIoU"] == result.scores["semseg"]["mIoU"]
    record = json.loads(result.folder.record.read_text())
    assert record["predictions"]["images"] == 2
    assert record["predictions"]["missing"] == {}
    assert record["protocol"]
    assert len(record["data"]["manifest_sha256"]) == 64
    assert set(record["metrics"]) == {"semseg", "depth", "normals", "boundary"}
    assert "semseg mIoU" in result.folder.table.read_text()
    assert result.folder.config.is_file()
    with result.folder.classes.open() as file:
        assert {row["stage"] for row in csv.DictReader(file)} == {"val"}


def test_the_documented_command(nyud, tmp_path):
    command = documented_command("score", predictions=nyud.saved["peers"], NYUDv2=nyud.root)
    done = run(tmp_path, *command, "paths.run_dir=run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["last"]["val"].keys() == nyud.scores.keys()
    assert list((tmp_path / "outputs" / "cache" / "digests").iterdir())


def test_every_class_is_printed_on_request(nyud, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    scored(nyud, nyud.saved["ours"], tmp_path / "a")
    assert "night stand" not in capsys.readouterr().out
    scored(nyud, nyud.saved["ours"], tmp_path / "b", "print_classes=true")
    assert "night stand" in capsys.readouterr().out
    next_step = f"compare them: python -m mtlsi_net.compare runs='[{tmp_path / 'b'},OTHER_RUN]'"
    assert caplog.messages[-1].endswith(next_step)


def test_held_out_images_can_be_scored(nyud, peers, tmp_path, monkeypatch):
    monkeypatch.setattr("mtlsi_net.data.nyud.NYUDDataModule.dev_list", None)
    for folder, suffix in (("semseg", ".png"), ("depth", ".npy"), ("normals", ".png"), ("edge", ".png")):
        (peers / folder / f"0005{suffix}").rename(peers / folder / f"0004{suffix}")
    result = scored(nyud, peers, tmp_path / "out", "data.dev_split=true")
    assert set(json.loads(result.folder.metrics.read_text())["last"]) == {"dev"}


def test_missing_predictions_are_named_or_counted(nyud, peers, tmp_path, caplog):
    (peers / "semseg" / "0005.png").unlink()
    (peers / "edge" / "0006.png").unlink()
    message = r"predictions are missing \(semseg: 1 of 2, 0005; boundary: 1 of 2, 0006\); allow_missing=true"
    with pytest.raises(UserError, match=message):
        scored(nyud, peers, tmp_path / "out")
    with caplog.at_level(logging.WARNING):
        result = scored(nyud, peers, tmp_path / "out", "allow_missing=true")
    assert "semseg: scored on 1 of 2 images; without 0005" in caplog.text
    assert json.loads(result.folder.record.read_text())["predictions"]["missing"] == {"semseg": 1, "boundary": 1}
    assert result.scores["depth"] == pytest.approx(nyud.scores["depth"], rel=1e-6)


def test_a_task_without_predictions_is_skipped_with_a_warning(nyud, peers, tmp_path, caplog):
    shutil.rmtree(peers / "edge")
    with caplog.at_level(logging.WARNING):
        result = scored(nyud, peers, tmp_path / "out")
    assert set(result.scores) == {"semseg", "depth", "normals"}
    assert "no boundary (looked for folder boundary or edge, files <id>_boundary.*)" in caplog.text
    assert "boundary" not in json.loads(result.folder.record.read_text())["metrics"]


def test_labels_of_tasks_that_are_not_scored_may_lack(nyud, peers, tmp_path):
    root = shutil.copytree(nyud.root, tmp_path / "data")
    shutil.rmtree(root / "edge")
    shutil.rmtree(peers / "edge")
    (root / "images" / "0001.png").unlink()  # nor training images
    assert set(scored(nyud, peers, tmp_path / "out", f"data.root={root}").scores) == {"semseg", "depth", "normals"}


def test_predictions_of_the_padded_image_are_recognised(nyud, peers, tmp_path):
    padded = np.pad(np.load(peers / "depth" / "0005.npy"), ((8, 8), (8, 8)))
    np.save(peers / "depth" / "0005.npy", padded)
    with pytest.raises(UserError, match=r"0005.npy: prediction of 64x80 pixels for a label of 48x64; .* never resized"):
        scored(nyud, peers, tmp_path / "out")
    with pytest.raises(UserError, match=r"It has the padded size: cut rows 8 to 56 and columns 8 to 72 out"):
        scored(nyud, peers, tmp_path / "out", "data.size=[64,80]")


def test_a_labelled_pixel_without_prediction_is_refused(nyud, peers, tmp_path):
    classes = np.asarray(Image.open(peers / "semseg" / "0006.png")).copy()
    classes[:2] = 255  # where the label has none either
    Image.fromarray(classes).save(peers / "semseg" / "0006.png")
    assert scored(nyud, peers, tmp_path / "out").scores["semseg"] == pytest.approx(nyud.scores["semseg"], rel=1e-6)
    classes[2, :3] = 255
    Image.fromarray(classes).save(peers / "semseg" / "0006.png")
    with pytest.raises(UserError, match=r"semseg/0006.png: 3 labelled pixels have no prediction"):
        scored(nyud, peers, tmp_path / "out")


@pytest.mark.parametrize("workers", [1, 4])
def test_a_bad_file_ends_the_run(nyud, peers, tmp_path, workers):
    for sample_id in ("0005", "0006"):
        (peers / "edge" / f"{sample_id}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"edge/000\d.png: cannot be read as an image"):
        scored(nyud, peers, tmp_path / "out", f"workers={workers}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pred=nowhere"], "pred=nowhere is no folder"),
        (["data.scale=0.5"], "data.scale=0.5: saved predictions are scored at the labels' own size"),
        (["data=pascal", "data.root=nowhere"], "data folder nowhere does not exist"),
    ],
)
def test_wrong_places_end_in_one_line(nyud, peers, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        scored(nyud, peers, tmp_path / "out", *overrides)


def test_folders_without_any_prediction_are_told_apart(nyud, tmp_path):
    (tmp_path / "pred").mkdir()
    with pytest.raises(
        UserError, match="holds no predictions of this data set; looked for folder semseg or segmentation"
    ):
        scored(nyud, tmp_path / "pred", tmp_path / "out")
    (tmp_path / "pred" / "depth").mkdir()
    with pytest.raises(
        UserError, match=r"depth: none of the 2 images has a prediction .*depth/<id>.npy|.mat, e.g. 0005"
    ):
        scored(nyud, tmp_path / "pred", tmp_path / "out", "allow_missing=true")


def test_labels_of_real_photographs_are_perfect_predictions(real_data, tmp_path):
    """The folders of NYUDv2 have names and encodings that predictions may have too."""
    root = real_data / "NYUDv2_mini"
    where = (f"data.root={root}", f"pred={root}", f"paths.run_dir={tmp_path}")
    assert_perfect(score(compose_config(*where, "one_based=true", "progress=false", name="score")).scores)


def test_labels_of_real_pascal_photographs_are_perfect_predictions(real_data, tmp_path):
    root = real_data / "PASCALContext_mini"
    where = ("data=pascal", f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}", "~tasks.normals")
    cfg = compose_config(*where)
    tasks = build_tasks(cfg)
    dataset = build_data(cfg, tasks).datasets["val"]
    for index, sample_id in enumerate(dataset.ids):
        for name, label in dataset.labels(index).items():
            array = label.permute(1, 2, 0).numpy()
            place = tmp_path / "pred" / name
            place.mkdir(parents=True, exist_ok=True)
            unit = 255 if tasks[name].target.kind == "binary" else 1
            Image.fromarray((array[..., 0] * unit).clip(0, 255).astype(np.uint8)).save(place / f"{sample_id}.png")
    pred = (f"pred={tmp_path / 'pred'}", f"paths.run_dir={tmp_path / 'out'}", "progress=false")
    assert_perfect(score(compose_config(*where, *pred, name="score")).scores)


def assert_perfect(scores):
    best = {"mIoU_present": 1, "pixel_accuracy": 1, "rmse": 0, "abs_rel": 0, "delta1": 1, "mean": 0, "within_11.25": 1}
    best |= {"maxF": 1}
    for name, values in scores.items():
        for key in values.keys() & best.keys():
            assert values[key] == pytest.approx(best[key], abs=1e-4), (name, key)
    # Predictions are suppressed and thinned, and published truths are not the stored labels: these lose a little.
    assert scores["boundary"]["odsF_partial"] > 0.9


def test_predictions_have_to_be_named(tmp_path):
    with pytest.raises(UserError, match="pred must be given"):
        score(compose_config(f"data.root={tmp_path}", f"paths.run_dir={tmp_path / 'out'}", name="score"))
