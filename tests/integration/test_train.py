"""Short real runs on a miniature data set, as a user starts them."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.modules import BASELINES
from helpers.pascal_miniature import write_pascal_miniature
from helpers.run_folders import last_scores
from omegaconf import OmegaConf
from PIL import Image

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.evaluate import evaluate, training_record
from mtlsi_net.engine.train import train
from mtlsi_net.metrics.per_image import read_image_sums


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


def short_run(data, folder, *overrides):
    return train(compose_config(*short_overrides(data, folder), *overrides))


def test_the_run_folder_is_complete(trained):
    root = trained.run.root
    config = yaml.safe_load((root / "config.yaml").read_text())
    assert config["data"]["root"] == str(trained.data)
    assert {p.name for p in (root / "checkpoints").iterdir()} == {"last.ckpt", "best_on_test.ckpt"}
    record = json.loads((root / "run.json").read_text())
    assert {"command", "commit", "seed", "versions", "hardware", "seconds", "protocol"} <= set(record)
    assert set(record["metrics"]) == {"semseg", "depth", "normals", "boundary"}
    assert len(record["data"]["manifest_sha256"]) == 64
    with (root / "classes.csv").open() as file:
        classes = list(csv.DictReader(file))
    assert len(classes) == 2 * 40
    val = [float(row["IoU"]) for row in classes if row["stage"] == "val"]
    scores = json.loads(trained.run.metrics.read_text())["last"]["val"]["semseg"]
    assert sum(val) / 40 == pytest.approx(scores["mIoU"], abs=1e-9)
    with (root / "confusion" / "val_semseg.csv").open() as file:
        rows = [row[1:] for row in csv.reader(file)]
    counts = np.array(rows[1:], np.int64)
    assert rows[0] == [row["class"] for row in classes if row["stage"] == "val"]
    assert counts.sum(1).tolist() == [int(row["pixels"]) for row in classes if row["stage"] == "val"]
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    np.testing.assert_allclose(counts.diagonal() / np.maximum(union, 1), val)
    assert Image.open(root / "confusion" / "train_semseg.png").width > 500
    images = read_image_sums(root / "per_image.npz")
    assert images.ids == ["0005", "0006"]
    last = json.loads(trained.run.metrics.read_text())["last"]["val"]
    for key, (value,) in images.scores(np.ones((1, 2))).items():
        task, metric = key.split("/")
        assert value == pytest.approx(last[task][metric], rel=1e-9), key
    assert record["main"]["depth"] == {"metric": "rmse", "higher_is_better": False}
    for name in ("val", "train"):
        assert Image.open(root / "pictures" / f"{name}.png").width > 500
    with (root / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any(row["val/semseg/mIoU"] for row in rows)
    assert any(row["val/boundary/odsF_subset"] for row in rows)


def test_metrics_are_nested_and_cover_every_task(trained):
    metrics = json.loads(trained.run.metrics.read_text())
    assert set(metrics) == {"last", "best", "constant", "model", "skill"}
    main = {"semseg": "mIoU", "depth": "rmse", "normals": "mean"}
    main["boundary"] = "odsF_partial"  # not the whole official list
    for stage in ("val", "train"):
        for task, key in main.items():
            assert math.isfinite(metrics["last"][stage][task][key])
            assert math.isfinite(metrics["constant"][stage][task][key])
    assert "mIoU_present" in metrics["last"]["val"]["semseg"]
    assert metrics["model"]["decoder_parameters_m"] > 0
    assert metrics["model"]["gflop"] > metrics["model"]["decoder_gflop"] > 0


def test_evaluate_needs_the_checkpoint_alone_and_agrees(trained, tmp_path):
    cfg = compose_config(
        f"ckpt={trained.checkpoint}",
        f"paths.run_dir={tmp_path}",
        "trainer.enable_progress_bar=false",
        name="evaluate",
    )
    evaluate(cfg)
    ours, theirs = (json.loads((f / "metrics.json").read_text()) for f in (tmp_path, trained.run.root))
    assert ours["last"]["val"] == theirs["last"]["val"]
    assert ours["constant"]["val"] == theirs["constant"]["val"]
    written, before = (OmegaConf.load(f / "config.yaml") for f in (tmp_path, trained.run.root))
    assert written.trained_data == before.data
    evaluated, record = (json.loads((f / "run.json").read_text()) for f in (tmp_path, trained.run.root))
    steps = [OmegaConf.load(f / "config.yaml").trainer.max_steps for f in (tmp_path, trained.run.root)]
    assert steps[0] == steps[1]
    assert evaluated["trained"] == {"command": record["command"], "commit": record["commit"]}


@pytest.mark.parametrize("record", [None, "{", "[]", "{}"])
def test_a_training_without_a_readable_record_is_unknown(record, tmp_path):
    if record is not None:
        (tmp_path / "run.json").write_text(record)
    assert training_record(tmp_path / "checkpoints" / "last.ckpt") == {}


def test_the_record_of_another_folder_is_not_a_checkpoints(tmp_path):
    (tmp_path / "run.json").write_text('{"command": "python -m mtlsi_net.compare", "commit": "0123abc"}')
    assert training_record(tmp_path / "downloads" / "last.ckpt") == {}
    assert training_record(tmp_path / "checkpoints" / "last.ckpt")["commit"] == "0123abc"


def test_a_checkpoint_is_evaluated_on_a_copy_that_lacks_a_task(trained, tmp_path):
    copy = shutil.copytree(trained.data, tmp_path / "copy")
    shutil.rmtree(copy / "depth")

    def evaluation(*overrides):
        where = (f"ckpt={trained.checkpoint}", f"data.root={copy}", f"paths.run_dir={tmp_path / 'e'}")
        return evaluate(compose_config(*where, "trainer.enable_progress_bar=false", *overrides, name="evaluate"))

    with pytest.raises(UserError, match=r"depth: 6, depth/0001.npy.*with a checkpoint: without=\[depth\]"):
        evaluation()
    with pytest.raises(UserError, match="without=dept is not known; did you mean 'depth'"):
        evaluation("without=[dept]")
    ours = json.loads(evaluation("without=[depth]").folder.metrics.read_text())["last"]["val"]
    theirs = json.loads(trained.run.metrics.read_text())["last"]["val"]
    assert ours == {name: scores for name, scores in theirs.items() if name != "depth"}
    assert math.isnan(evaluation("data.allow_missing=true").skill)


def test_same_seed_same_weights_and_metrics(data, trained, tmp_path):
    def weights(folder):
        return torch.load(folder.last, weights_only=True)["state_dict"]

    runs = [short_run(data, tmp_path / name, "seed=1", "data.augment=true").folder for name in ("a", "b")]
    scores, same = (json.loads(folder.metrics.read_text()) for folder in runs)
    assert scores == same
    (first, again), other = map(weights, runs), weights(trained.run)  # of seed 0
    assert all(torch.equal(first[key], again[key]) for key in first)
    kernels = [key for key, value in first.items() if key.startswith("network.encoder") and value.ndim == 4]
    both = torch.stack([torch.cat([state[key].flatten() for key in kernels]) for state in (first, other)])
    assert torch.corrcoef(both)[0, 1].abs() < 0.1, "another seed starts from other weights"


@pytest.mark.slow
def test_compiled_and_recomputed_runs_keep_the_names_of_their_weights(data, tmp_path, monkeypatch):
    def compile_without_generator(module):
        compiled.append(module)
        compile_module(module, backend="eager")

    compiled, compile_module = [], torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_generator)
    switches = ("compile=true", "activation_checkpointing=true", "optim.ema_decay=0.5")
    plain = short_run(data, tmp_path / "plain", switches[2])
    compiled_run = short_run(data, tmp_path / "compiled", *switches)
    assert len(compiled) == 1
    ours, theirs = (
        torch.load(run.folder.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
        for run in (compiled_run, plain)
    )
    assert list(ours) == list(theirs)
    for key, value in ours.items():
        if "running_" not in key:  # a compiled network's are means by decay from the start, see NormStatistics
            torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-4, msg=key)


def test_shared_encoder_and_fewer_tasks_run_through_the_same_code(data, tmp_path):
    overrides = [o for o in short_overrides(data, tmp_path) if not o.startswith("model.head_dim")]
    result = train(compose_config(*overrides, "model=shared_encoder", "~tasks.normals", "~tasks.boundary"))
    assert set(last_scores(result.folder.root)) == {"semseg", "depth"}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=[] if name in ("mlore", "mti_net_variant", "single_task") else pytest.mark.slow)
        for name in BASELINES
    ],
)
def test_every_baseline_trains_and_is_scored_from_its_checkpoint(data, tmp_path, model, caplog):
    overrides = [o for o in short_overrides(data, tmp_path / "run") if not o.startswith("model.head_dim")]
    two_tasks = ("~tasks.normals", "~tasks.boundary", "backbone.name=test_convnext")
    result = train(compose_config(*overrides, f"model={model}", "task_weights.aux=1.0", *two_tasks))
    checkpoint = result.folder.checkpoints / "last.ckpt"
    cfg = compose_config(f"ckpt={checkpoint}", f"paths.run_dir={tmp_path / 'again'}", name="evaluate")
    caplog.set_level("INFO")
    assert evaluate(cfg).skill == pytest.approx(result.skill, abs=1e-4)
    next_step = f"compare them: python -m mtlsi_net.compare runs='[{tmp_path / 'again'},OTHER_RUN]'"
    assert caplog.messages[-1].endswith(next_step)


def test_averaged_weights_are_reported_beside_raw_ones(data, tmp_path):
    result = short_run(data, tmp_path, "optim.ema_decay=0.5", "optim.lr=0.05")
    metrics = json.loads(result.folder.metrics.read_text())
    assert metrics["ema"]["val"] != metrics["last"]["val"]


@pytest.mark.parametrize("validations", ["null", "1"])
def test_a_held_out_part_names_the_checkpoint_best(data, tmp_path, monkeypatch, validations):
    monkeypatch.setattr("mtlsi_net.data.nyud.NYUDDataModule.dev_list", None)
    result = short_run(data, tmp_path, "data.dev_split=true", f"trainer.val_check_interval={validations}")
    assert (result.folder.checkpoints / "best.ckpt").is_file()
    assert set(json.loads(result.folder.metrics.read_text())["last"]) == {"dev", "train"}


def test_best_is_never_worse_than_last_and_never_an_older_runs(data, tmp_path):
    stale = tmp_path / "checkpoints" / "best_on_test.ckpt"
    stale.parent.mkdir()
    stale.write_bytes(b"another run's")
    result = short_run(data, tmp_path)  # too short to validate on the way: the last weights are the only candidate
    metrics = json.loads(result.folder.metrics.read_text())
    assert metrics["best"]["val"] == metrics["last"]["val"]
    best, last = (torch.load(stale.with_name(f"{n}.ckpt"), weights_only=True) for n in ("best_on_test", "last"))
    assert all(torch.equal(best["state_dict"][key], value) for key, value in last["state_dict"].items())


def test_a_better_earlier_checkpoint_is_reported_as_best(data, tmp_path, monkeypatch):
    from mtlsi_net.lit.module import MultiTaskModule

    def earlier_is_better(self, stage, estimate=False):  # noqa: ARG001 - the method's signature
        return -float(self.global_step)

    monkeypatch.setattr(MultiTaskModule, "skill", earlier_is_better)
    result = short_run(data, tmp_path, "trainer.max_steps=3", "trainer.val_check_interval=1", "optim.lr=0.05")
    metrics = json.loads(result.folder.metrics.read_text())
    assert metrics["best"]["step"] == 1
    assert metrics["best"]["val"] != metrics["last"]["val"]
    assert result.skill == -3


@pytest.mark.parametrize("fate", ["written on a GPU", "deleted"])
def test_a_best_checkpoint_of_another_device_is_scored_and_a_deleted_one_is_not(
    data, tmp_path, monkeypatch, caplog, fate
):
    from mtlsi_net.engine import train as training
    from mtlsi_net.lit.module import MultiTaskModule

    best, honest = tmp_path / "checkpoints" / "best_on_test.ckpt", training.score

    def score(run):
        saved = torch.load(best, weights_only=True)
        best.unlink()
        if fate != "deleted":
            with monkeypatch.context() as patch:
                patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
                torch.save(saved, best)
        return honest(run)

    monkeypatch.setattr(MultiTaskModule, "skill", lambda self, *_, **__: -float(self.global_step))
    monkeypatch.setattr(training, "score", score)
    result = short_run(data, tmp_path, "trainer.val_check_interval=1")
    metrics = json.loads(result.folder.metrics.read_text())
    assert metrics.get("best", {}).get("step") == (None if fate == "deleted" else 1)
    assert ("best_on_test.ckpt is gone" in caplog.text) == (fate == "deleted")


def test_a_non_finite_loss_names_task_and_images_and_keeps_the_checkpoint(data, tmp_path, monkeypatch):
    from mtlsi_net.tasks.depth import DepthTask

    honest, calls = DepthTask.loss, []

    def breaks_at_the_third_step(self, output, target):
        calls.append(None)
        return honest(self, output, target) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(DepthTask, "loss", breaks_at_the_third_step)
    with pytest.raises(UserError, match=r"step 2: depth = nan; images 000\d, 000\d.*last checkpoint is kept"):
        short_run(data, tmp_path, "trainer.max_steps=5", "checkpoint_every=2")
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_a_non_finite_gradient_stops_before_the_weights_change(data, tmp_path, monkeypatch):
    from mtlsi_net.tasks.depth import DepthTask

    def finite_with_infinite_slope(self, output, target):  # noqa: ARG001 - the loss's signature
        return (output * 0).sqrt().sum()

    monkeypatch.setattr(DepthTask, "loss", finite_with_infinite_slope)
    with pytest.raises(UserError, match="gradient is not finite at step 0"):
        short_run(data, tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone.name=regnetx_02", "regnetx_002"),
        ("~tasks.normals ~tasks.semseg ~tasks.depth ~tasks.boundary", "no task is left"),
        ("data.root=/nowhere", "data folder /nowhere does not exist"),
        ("data.batch_size=9", "cannot fill one batch"),
        ("~task_weights.weights.depth", "no loss weight for depth"),
    ],
)
def test_bad_settings_end_in_one_line(data, tmp_path, override, message):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - libraries wrap ours; the cause is looked at below
        short_run(data, tmp_path, *override.split())
    from mtlsi_net.core.errors import find_user_error

    error = find_user_error(caught.value)
    assert error is not None, caught.value
    assert message in str(error)
    assert "\n" not in str(error)


def test_bad_checkpoints_are_refused(tmp_path):
    damaged, foreign, text = (tmp_path / f"{name}.ckpt" for name in ("damaged", "foreign", "text"))
    text.write_text("hello world")
    damaged.write_bytes(b"PK not a checkpoint")
    torch.save({"state_dict": {}}, foreign)
    for path, message in [
        (tmp_path / "none.ckpt", "does not exist"),
        (damaged, "cannot be read"),
        (text, "is no checkpoint"),
        (foreign, "not written by this suite"),
    ]:
        with pytest.raises(UserError, match=message):
            evaluate(compose_config(f"ckpt={path}", f"paths.run_dir={tmp_path / 'out'}", name="evaluate"))


def test_pascal_with_a_label_of_people_missing_here_and_there_trains_and_is_evaluated(tmp_path):
    root = write_pascal_miniature(tmp_path / "data")
    (root / "sal_distill" / "2008_000001.png").unlink()
    overrides = [o for o in short_overrides(root, tmp_path / "run") if not o.startswith("experiment=")]
    result = train(
        compose_config(
            "experiment=pascal_overfit",
            *overrides,
            "data.size=[64,64]",
            "data.allow_missing=true",
            "~tasks.normals",
            f"paths.output_dir={tmp_path / 'out'}",
        )
    )
    scores = json.loads(result.folder.metrics.read_text())["last"]["val"]
    main = {"semseg": "mIoU", "human_parts": "mIoU", "saliency": "maxF", "boundary": "odsF_partial"}
    assert set(scores) == set(main)
    assert all(math.isfinite(scores[task][key]) for task, key in main.items())
    assert list((tmp_path / "out" / "cache" / "pascal").glob("human_parts/*.png"))
    cfg = compose_config(
        f"ckpt={result.folder.checkpoints / 'last.ckpt'}", f"paths.run_dir={tmp_path}/e", name="evaluate"
    )
    assert evaluate(cfg).skill == pytest.approx(result.skill, abs=1e-4)
