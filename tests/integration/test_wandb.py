"""What a run without a login leaves for W&B, read back from its file."""

import json
import os
import subprocess
import sys

import pytest
from helpers.commands import run_command
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.wandb_file import config_of, history_of, run_of, runs_of, summary_of
from lightning.pytorch.loggers import CSVLogger

from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.dashboard import close, log_config, log_pictures
from mtlsi_net.engine.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the run folder of a command with two ablations."""
    root = tmp_path_factory.mktemp("wandb")
    overrides = short_overrides(write_miniature(root / "data"), root / "run")
    done = run_command(
        "mtlsi_net.train", *overrides, "logger=wandb", "pictures=1", "ablation=[no_aux,phi_elu1]", cwd=root
    )
    assert done.returncode == 0, done.stderr
    return root / "run"


def test_a_run_says_what_it_is(folder):
    run = run_of(folder)
    assert (run.run_group, run.job_type, run.project) == ("nyud_overfit", "train", "mtlsi-net")
    assert {"tiny", "mtlsi", "no_aux", "phi_elu1"} <= set(run.tags)
    assert run.run_id == (folder / "wandb_id.txt").read_text().strip()
    config = config_of(folder)
    assert config["backbone"]["name"] == "test_resnet"
    assert config["model"]["fusion"]["phi"] == "elu1"
    assert config["model_size"]["decoder_parameters_m"] > 0


def test_scores_stand_under_names_that_sort_and_in_the_summary(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = history_of(folder)
    assert any("val/semseg/mIoU" in row and "val/depth/rmse" in row for row in rows)
    summary = summary_of(folder)
    assert summary["last/val/semseg/mIoU"] == pytest.approx(metrics["last"]["val"]["semseg"]["mIoU"])
    assert summary["best/val/depth/rmse"] == pytest.approx(metrics["best"]["val"]["depth"]["rmse"])
    assert summary["constant/val/normals/mean"] == pytest.approx(metrics["constant"]["val"]["normals"]["mean"])
    assert summary["skill"] == pytest.approx(metrics["skill"])


def test_pictures_are_panels_and_classes_are_masks(folder):
    panels = {key.split("/")[1] for row in history_of(folder) for key in row if key.startswith("pictures_val/")}
    assert panels == {"semseg", "depth", "normals", "boundary"}
    media = next(folder.glob("wandb/offline-run-*")) / "files" / "media" / "images"
    assert len(list(media.glob("mask/pictures_val/semseg*.mask.png"))) == 2  # label and prediction of one image


def test_a_resumed_run_goes_on_with_its_id_and_a_new_one_does_not(tmp_path):
    overrides = [*short_overrides(write_miniature(tmp_path / "data"), tmp_path / "run"), "logger=wandb"]
    folder = train(compose_config(*overrides, "trainer.max_steps=1")).folder
    first = run_of(folder.root).run_id
    train(compose_config(*overrides), resume=folder.last)
    assert [run.run_id for run in runs_of(folder.root)] == [first, first]
    for path in (folder.last, folder.metrics):
        path.unlink()
    train(compose_config(*overrides, "trainer.max_steps=1"))
    assert runs_of(folder.root)[-1].run_id != first


@pytest.mark.slow  # it waits for the service
def test_a_service_that_does_not_answer_stops_nothing(tmp_path):
    program = (
        "import sys; from mtlsi_net.lit.loggers import wandb_logger; "
        "logger = wandb_logger('p', 'n', sys.argv[1], patience=2); "
        "logger.log_metrics({'a/b': 1.0}, step=0); logger.experiment.finish()"
    )
    # Logged in, at an address where nobody listens.
    own = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")} | own
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "W&B does not answer" in done.stderr
    assert run_of(tmp_path).project == "p"
    assert any(row.get("a/b") == 1.0 for row in history_of(tmp_path))


def test_other_loggers_are_left_alone(tmp_path):
    loggers = [CSVLogger(tmp_path)]
    log_config(loggers, {}, {})
    close(loggers, {}, 0.0, RunFolder(tmp_path))
    log_pictures(loggers, [], {}, "val")
    assert not list(tmp_path.iterdir())
