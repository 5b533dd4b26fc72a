"""Runs of several processes (gloo on the CPU), as a user starts them, against the same run in one process."""

import csv
import json
import os
import socket
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from helpers.commands import Command, forked_ranks, run_command
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.processes import gradients
from PIL import Image

from mtlsi_net.cli.launch import start
from mtlsi_net.evaluate import evaluate_one
from mtlsi_net.metrics.per_image import read_image_sums


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Sums in one order, here and in the processes that are started."""
    before, had = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    torch.set_num_threads(before)
    os.environ.pop("OMP_NUM_THREADS")
    os.environ.update({} if had is None else {"OMP_NUM_THREADS": had})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight training images, the later the fewer labels, and five to validate on."""
    root = write_miniature(tmp_path_factory.mktemp("data"), train=8, val=5)
    for k in range(1, 9):
        for folder, blank in (("segmentation", 0), ("normals", 127)):
            path = root / folder / f"{k:04d}.png"
            pixels = np.array(Image.open(path))
            pixels[: 5 * k] = blank
            Image.fromarray(pixels).save(path)
        depth = np.load(root / "depth" / f"{k:04d}.npy")
        depth[:, : 7 * k] = 0
        np.save(root / "depth" / f"{k:04d}.npy", depth)
    return root


def without_batch_norm(data, folder, *overrides):
    """Return a run of two steps of four images whose network has neither batch norm nor chance."""
    short = (*short_overrides(data, folder), "backbone=vit_t", "backbone.pretrained=false", "backbone.name=test_vit")
    options = (
        "task_weights.aux=1.0",
        "data.batch_size=4",
        "data.augment=true",
        "trainer.precision=64-true",
        "trainer.val_check_interval=1",
    )
    return compose_config(*short, *options, *overrides)


def kept(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    """One process and the whole batch at once, which divides by all valid pixels of the step anyway."""
    folder = tmp_path_factory.mktemp("one")
    gradients(without_batch_norm(data, folder), folder / "kept.pt")
    return kept(folder / "kept.pt")


def assert_same_training(found, reference):
    assert found["validated"] == reference["validated"] == [1, 2]
    assert found["loss"] == pytest.approx(reference["loss"], rel=1e-5)
    for ours, theirs in zip(found["gradients"], reference["gradients"], strict=True):
        assert ours.keys() == theirs.keys()
        largest = max(float(value.abs().max()) for value in theirs.values())
        for name, value in theirs.items():
            assert torch.allclose(ours[name], value, rtol=1e-4, atol=1e-6 * largest), name


def test_micro_batches_have_the_gradient_of_the_whole(data, tmp_path, reference):
    cfg = without_batch_norm(data, tmp_path, "data.micro_batch=1", "loss_norm=global")
    gradients(cfg, tmp_path / "kept.pt")
    assert_same_training(kept(tmp_path / "kept.pt"), reference)
    cfg.loss_norm = "device"
    gradients(cfg, tmp_path / "kept.pt")
    with pytest.raises(AssertionError):  # images of few labels then count as much as others
        assert_same_training(kept(tmp_path / "kept.pt"), reference)


@pytest.mark.parametrize(
    ("count", "micro_batch"),
    [(2, 1), pytest.param(4, "null", marks=pytest.mark.slow), pytest.param(2, "null", marks=pytest.mark.slow)],
)
def test_processes_have_the_gradient_of_one(data, tmp_path, reference, count, micro_batch):
    options = ("trainer=ddp_cpu", f"trainer.devices={count}", f"data.micro_batch={micro_batch}", "loss_norm=global")
    with forked_ranks():
        start(gradients, without_batch_norm(data, tmp_path, *options), tmp_path / "kept.pt")
    assert_same_training(kept(tmp_path / "kept.pt"), reference)


@pytest.fixture(scope="module")
def alone(data, trained, tmp_path_factory):
    """The folder of a checkpoint evaluated by one process."""
    folder = tmp_path_factory.mktemp("alone")
    evaluated(trained.checkpoint, data, folder, 1)
    return folder


def evaluated(checkpoint, data, folder, count):
    options = ("trainer=ddp_cpu", f"trainer.devices={count}", "trainer.enable_progress_bar=false")
    where = (f"ckpt={checkpoint}", f"data.root={data}", f"paths.run_dir={folder}")
    with forked_ranks():
        return start(evaluate_one, compose_config(*where, *options, name="evaluate"))


@pytest.mark.parametrize("count", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 7))])
def test_every_number_of_processes_gives_the_same_scores(data, trained, alone, tmp_path, count):
    folder = alone
    evaluated(trained.checkpoint, data, tmp_path, count)  # of five images; seven processes are more than there are
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (tmp_path, folder))
    for kind in ("last", "constant"):
        for task, scores in theirs[kind]["val"].items():
            assert ours[kind]["val"][task] == pytest.approx(scores, rel=1e-9, abs=1e-9, nan_ok=True), (kind, task)
    for name in ("classes.csv", "confusion/val_semseg.csv"):
        assert (tmp_path / name).read_text() == (folder / name).read_text()
    sums, expected = (read_image_sums(path / "per_image.npz") for path in (tmp_path, folder))
    assert sums.ids == expected.ids == [f"{k:04d}" for k in range(9, 14)]
    assert sums.sums.keys() == expected.sums.keys()
    for key, value in expected.sums.items():
        exact = value.dtype.kind == "i"
        assert np.array_equal(sums.sums[key], value) if exact else np.allclose(sums.sums[key], value, 1e-9, 1e-9), key
    pictures = (Image.open(path / "pictures" / "val.png") for path in (tmp_path, folder))
    assert len({picture.tobytes() for picture in pictures}) == 1, "the same images, whoever scored them"


def command(data, cwd, *overrides, launcher=(), sweep=()):
    """Run the command line in a folder of its own."""
    return run_command(*launcher, *training(data, cwd, *overrides, sweep=sweep), cwd=cwd, fork_ranks=not launcher)


def training(data, cwd, *overrides, sweep=()):
    short = [text for text in short_overrides(data, cwd) if not text.startswith("paths.run_dir")]
    return ("mtlsi_net.train", *sweep, *short, "trainer=ddp_cpu", *overrides)


def only_run(cwd):
    """Return the only run folder there is."""
    (folder,) = (path for path in (cwd / "outputs" / "nyud_overfit").iterdir())
    return folder


def assert_one_complete_run(folder, done):
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("everything about this run is in") == 1
    inside = folder.relative_to(folder.parents[2])
    assert done.stdout.count(f"predict with it: python -m mtlsi_net.predict ckpt={inside} input=IMAGE_OR_FOLDER\n") == 1
    names = {"config.yaml", "metrics.json", "metrics.csv", "run.json", "table.md", "per_image.npz", "classes.csv"}
    assert {path.name for path in folder.iterdir()} == names | {
        "checkpoints",
        "confusion",
        "pictures",
        ".hydra",
        ".lock",
        "train.log",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best_on_test.ckpt"}
    record = json.loads((folder / "run.json").read_text())
    assert record["hardware"]["processes"] == 2
    assert record["command"].startswith("python -")
    assert "trainer=ddp_cpu" in record["command"]
    assert (folder / "train.log").read_text().count("everything about this run is in") == 1
    with (folder / "metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == ["0", "1"]


EVERY_STEP = "trainer.log_every_n_steps=1"


def test_one_command_trains_in_two_processes_and_leaves_one_folder(data, tmp_path):
    done = command(data, tmp_path, EVERY_STEP)
    assert_one_complete_run(only_run(tmp_path), done)


def test_ranks_of_torchrun_share_one_folder(data, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torchrun = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = training(data, tmp_path, EVERY_STEP)
    ranks = [
        Command(*words, cwd=tmp_path, environment=os.environ | torchrun | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    outputs = [rank.communicate(timeout=500) for rank in ranks]
    out, err = ("".join(texts) for texts in zip(*outputs, strict=True))
    assert_one_complete_run(
        only_run(tmp_path), CompletedProcess(words, max(rank.returncode for rank in ranks), out, err)
    )


@pytest.mark.slow
def test_torchrun_starts_ranks_that_share_one_folder(data, tmp_path):
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    done = command(data, tmp_path, EVERY_STEP, launcher=torchrun)
    assert_one_complete_run(only_run(tmp_path), done)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_the_jobs_of_a_sweep_train_one_after_the_other_in_two_processes(data, tmp_path, launcher):
    tasks = ["hydra.launcher.tasks_per_node=2"] if launcher != "basic" else []
    options = ("sweep=s", "seed=1,2", f"hydra/launcher={launcher}", EVERY_STEP, *tasks)
    done = command(data, tmp_path, *options, sweep=("-m",))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "outputs").iterdir() if path.name != "cache"] == ["nyud_overfit"]
    assert not (tmp_path / "multirun").exists()
    jobs = [path for path in only_run(tmp_path).iterdir() if path.is_dir() and path.name != ".submitit"]
    assert len(jobs) == 2
    for job in jobs:
        assert json.loads((job / "metrics.json").read_text())["skill"] is not None
        assert json.loads((job / "run.json").read_text())["hardware"]["processes"] == 2


@pytest.mark.slow
def test_an_error_of_one_rank_ends_a_run_with_its_message(tmp_path):
    copy = write_miniature(tmp_path / "data", train=8, val=5)
    image = copy / "images" / "0010.png"  # the second process scores it; the first reads its size
    image.write_bytes(image.read_bytes()[:200])
    done = command(copy, tmp_path)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: process 1: ")
    assert "images/0010.png" in errors[0]
    assert not (only_run(tmp_path) / "metrics.json").exists()
