"""Resuming, extending and fine-tuning a run: what is kept, what is said, and what is refused."""

import hashlib
import json
import logging
import shutil

import pytest
import torch
import yaml
from helpers.miniature import compose_config, short_overrides, write_miniature

from mtlsi_net.cli.run_settings import with_settings_of_run
from mtlsi_net.cli.sweeps import job_folder
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import read_history
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.engine.job import run_job
from mtlsi_net.engine.resume import choose_folder
from mtlsi_net.engine.start import plan_start
from mtlsi_net.engine.train import train
from mtlsi_net.inference.model import load
from mtlsi_net.lit.module import MultiTaskModule

STEPS = 3
OPTIONS = (
    *("backbone.name=test_convnext", "~tasks.boundary", "data.augment=true", "logger=csv", "optim.ema_decay=0.9"),
    *("trainer.log_every_n_steps=1", "trainer.val_check_interval=2", "checkpoint_every=1"),
)
FINE_TUNED = ("optim.lr=0", "optim.ema_decay=null")  # so that weights stay those that training started from
CLASSES = "tasks.semseg.classes=[a,b,c,d,e]"


class Killed(BaseException):
    """An exception that nothing handles."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=5)  # two steps an epoch


def job(data, folder, *options, steps=STEPS):
    words = [*short_overrides(data, folder, steps=steps), *OPTIONS, *options]
    if "model=shared_encoder" in words:
        words.remove("model.head_dim=32")
    return compose_config(*words)


@pytest.fixture(scope="module")
def parent(data, tmp_path_factory):
    """Return the folder of a finished run."""
    return train(job(data, tmp_path_factory.mktemp("runs") / "parent")).folder


def digests(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def record(folder):
    return json.loads((folder / "run.json").read_text())


def saved(folder):
    return torch.load(RunFolder(folder).last, weights_only=True)


def history(folder):
    rows = read_history(folder / "metrics.csv")
    return {(row["step"], key): value for row in rows for key, value in row.items()}


def die_at(step, patch):
    honest = MultiTaskModule.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == step:
            raise Killed
        return honest(self, batch, batch_idx)

    patch.setattr(MultiTaskModule, "training_step", training_step)


# -- extend ------------------------------------------------------------------------------------------------------------


def test_more_steps_make_a_new_run_that_names_its_parent_which_stays_byte_for_byte(data, parent, tmp_path, caplog):
    before = digests(parent.root)
    cfg = job(data, tmp_path / "longer", f"ckpt={parent.root}", steps=6)
    assert choose_folder(cfg) is None, "the command's own folder"
    with caplog.at_level(logging.INFO):
        run_job(cfg)
    assert digests(parent.root) == before
    extends = record(tmp_path / "longer")["extends"]
    assert (extends["run"], extends["step"], extends["steps"]) == (str(parent.root), STEPS, 6)
    assert saved(tmp_path / "longer")["global_step"] == 6
    said = [text for text in caplog.messages if "learning rate goes" in text]
    assert len(said) == 1
    assert "from step 3 to 6: the learning rate goes from 0 to 0.00214" in said[0], "0.004 * (1 - 3 / 6) ** 0.9"


CONSTANT = "optim.power=0"


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return the folder of a run that never ended before its five steps."""
    return train(job(data, tmp_path_factory.mktemp("runs") / "whole", CONSTANT, steps=5)).folder.root


@pytest.mark.parametrize("end", [2, 3])  # an epoch's end with a validation, inside an epoch
def test_an_extended_run_is_the_run_that_never_ended(data, whole, tmp_path, end):
    part = train(job(data, tmp_path / "part", CONSTANT, steps=end)).folder
    run_job(job(data, tmp_path / "longer", CONSTANT, f"ckpt={part.root}", steps=5))
    ours, theirs = saved(tmp_path / "longer"), saved(whole)
    assert all(torch.equal(ours["state_dict"][key], value) for key, value in theirs["state_dict"].items())
    assert ours["epoch"] == theirs["epoch"]
    assert history(tmp_path / "longer") == history(whole)
    scores, others = (json.loads((root / "metrics.json").read_text()) for root in (tmp_path / "longer", whole))
    assert scores == others


def test_an_interrupted_extension_resumes_and_still_names_its_parent(data, parent, tmp_path, monkeypatch):
    folder = tmp_path / "longer"
    with monkeypatch.context() as patch:
        die_at(5, patch)
        with pytest.raises(Killed):
            run_job(job(data, folder, f"ckpt={parent.root}", steps=6))
    assert choose_folder(job(data, tmp_path / "new", f"ckpt={folder}", steps=6)) == folder
    run_job(job(data, folder, f"ckpt={folder}", steps=6))
    assert record(folder)["extends"]["run"] == str(parent.root)
    assert saved(folder)["global_step"] == 6


def test_a_requeued_extension_continues_in_its_own_folder(data, parent, tmp_path, monkeypatch):
    out = f"paths.output_dir={tmp_path}"
    name = job(data, tmp_path).name
    with monkeypatch.context() as patch:
        die_at(5, patch)
        with pytest.raises(Killed):
            run_job(job(data, tmp_path / name / "begun", out, f"ckpt={parent.root}", steps=6))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    again = job(data, tmp_path / name / "again", out, f"ckpt={parent.root}", steps=6)
    assert choose_folder(again) == tmp_path / name / "begun"


@pytest.mark.parametrize(
    ("options", "steps", "message"),
    [
        ((), 2, "is at step 3 already: set trainer.max_steps .now 2. beyond it"),
        (("optim.lr=0.1",), 6, "was trained with optim.lr=0.004.*init_from="),
        (("seed=1",), STEPS, "this command sets .*seed=1.* extend it with another trainer.max_steps alone"),
    ],
)
def test_what_is_no_extension_is_refused_before_anything_is_written(data, parent, tmp_path, options, steps, message):
    before = digests(parent.root)
    cfg = job(data, tmp_path / "other", f"ckpt={parent.root}", *options, steps=steps)
    with pytest.raises(UserError, match=message):
        choose_folder(cfg) or run_job(cfg)
    assert digests(parent.root) == before
    assert not (tmp_path / "other").exists()


def test_a_parents_folder_is_not_taken_for_its_extension(data, parent):
    with pytest.raises(UserError, match=r"stays as it is.*leave out paths.run_dir"):
        choose_folder(job(data, parent.root, f"ckpt={parent.root}", steps=6))


def test_a_checkpoint_of_weights_only_is_refused_with_init_from(data, parent, tmp_path):
    best = parent.checkpoints / "best_on_test.ckpt"
    with pytest.raises(UserError, match=f"holds weights only.*init_from={best}"):
        run_job(job(data, tmp_path / "longer", f"ckpt={best}", steps=6))


def test_a_run_that_stopped_early_extends_without_its_early_stopping(data, tmp_path):
    stop = (
        "callbacks=[default,early_stopping]",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=100",
        "trainer.val_check_interval=1",
        "data.test_split=false",
    )
    stopped = train(job(data, tmp_path / "stopped", *stop, steps=4)).folder
    assert saved(stopped.root)["global_step"] == 2
    run_job(job(data, tmp_path / "longer", f"ckpt={stopped.root}", "trainer.val_check_interval=1", steps=4))
    assert saved(tmp_path / "longer")["global_step"] == 4


def test_a_command_that_only_names_a_run_and_its_length_takes_the_runs_words(tmp_path, capsys):
    (tmp_path / ".hydra").mkdir()
    words = ["experiment=rooms_demo", "trainer.max_steps=9", "+data.root=x", "ckpt=last", "paths.run_dir=y"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    own = [f"ckpt={tmp_path}", "trainer.max_steps=20"]
    assert with_settings_of_run(["-m", *own]) == ["-m", "experiment=rooms_demo", "+data.root=x", *own]
    assert f"with the settings of {tmp_path}: experiment=rooms_demo +data.root=x" in capsys.readouterr().err
    (mine := tmp_path / "mine").mkdir()
    about_hydra = [f"--config-dir={mine}", "hydra.verbose=true", *own]
    assert with_settings_of_run(about_hydra) == [*about_hydra[:2], "experiment=rooms_demo", "+data.root=x", *own]
    for kept in (["ckpt=last"], [*own, "optim.lr=1"], [*own, "experiment=nyud"], ["ckpt=/nowhere"]):
        assert with_settings_of_run(kept) == kept


def test_jobs_of_a_sweep_that_extend_different_runs_have_folders_of_their_own(data, parent, tmp_path):
    names = {job_folder([f"ckpt={run}", "trainer.max_steps=9"]) for run in ("a", "b", "last")}
    assert len(names) == 3
    assert job_folder(["ckpt=last", "seed=1"]) == job_folder(["seed=1"])
    with pytest.raises(UserError, match="trained with these settings: a job that extends it sets another"):
        run_job(job(data, tmp_path / "job", f"ckpt={parent.root}"), command="python -m mtlsi_net.train")


def test_damaged_checkpoints_are_not_to_be_deleted(data, parent, tmp_path):
    folder = RunFolder(shutil.copytree(parent.root, tmp_path / "run"))
    folder.metrics.unlink()
    folder.last.write_bytes(b"")
    with pytest.raises(UserError, match="is damaged; start a new run") as caught:
        run_job(job(data, folder.root, f"ckpt={folder.root}"))
    assert "delete" not in str(caught.value)


# -- fine-tune ---------------------------------------------------------------------------------------------------------


def fine_tuned(data, folder, source, *options):
    """Return the record and the last weights of a run that starts from ``source`` and changes no weight."""
    train(job(data, folder, f"init_from={source}", *FINE_TUNED, *options, steps=1))
    return record(folder)["init_from"], saved(folder)["state_dict"]


def initialised(data, folder, source, *options):
    """Return the record and the weights with which a run from ``source`` would begin."""
    cfg = job(data, folder, f"init_from={source}", *FINE_TUNED, *options, steps=1)
    start, tasks = plan_start(cfg, None, None), build_tasks(cfg)
    network = build_network(start.network_config(cfg), tasks)
    start.initialise(network, tasks)
    return start.origin.record["init_from"], {f"network.{key}": value for key, value in network.state_dict().items()}


def equal(ours, theirs, part):
    keys = [key for key in ours if key.startswith(f"network.{part}") and "running" not in key and "num_b" not in key]
    assert keys
    return all(key in theirs and torch.equal(ours[key], theirs[key]) for key in keys)


def test_a_run_starts_from_the_averaged_weights_of_another_and_says_so(data, parent, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        told, ours = fine_tuned(data, tmp_path / "run", parent.root)
    average = saved(parent.root)["callbacks"]["ExponentialAverage"]["average"]
    theirs = {key.replace("module.", "network.", 1): value for key, value in average.items()}
    assert equal(ours, theirs, "")
    assert told["fresh"] == told["resized"] == told["unused"] == []
    assert "last.ckpt (averaged weights, step 3)" in told["source"]
    assert any("init_from: " in text and "averaged weights, step 3" in text for text in caplog.messages)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["init_from"] == str(parent.root)
    assert saved(tmp_path / "run")["global_step"] == 1, "step and optimiser start anew"
    assert "init_from" in saved(tmp_path / "run")["licences"]


CASES = {
    "another size": (("data.size=[64,64]",), []),
    "fewer tasks": (("~tasks.depth",), ["preliminary.feedback (semseg, normals)"]),  # reads the predictions of all tasks
    "another task": (("~tasks.depth", "+tasks.boundary={_target_: mtlsi_net.tasks.boundary.BoundaryTask, preset: nyud}"),
                     ["all layers (boundary)"]),
    "other classes": ((CLASSES,), ["preliminary.output (semseg)", "head.output (semseg)"]),
    "another decoder": (
        ("model=shared_encoder",),
        ["decoder.branch (semseg, depth, normals)", "decoder.blocks.0.project (semseg, depth, normals)"],
    ),
    "another width": (("model.width=64",), ["decoder (semseg, depth, normals)"]),
}  # fmt: skip
TRAINED = ("another task", "other classes")
"""Of these cases; the others end where training begins."""


@pytest.mark.parametrize("case", CASES)
def test_fine_tuning_with(data, parent, tmp_path, case):
    options, fresh = CASES[case]
    begin = fine_tuned if case in TRAINED else initialised
    told, ours = begin(data, tmp_path / "run", parent.checkpoints / "best_on_test.ckpt", *options)
    theirs = torch.load(parent.checkpoints / "best_on_test.ckpt", weights_only=True)["state_dict"]
    assert equal(ours, theirs, "encoder.")
    assert [layer for layer in told["fresh"] if layer in fresh] == fresh, told["fresh"]
    if not fresh:
        assert told["fresh"] == []


def test_fine_tuning_on_other_data_from_a_saved_model_or_a_file(parent, tmp_path):
    model = load(parent.root)
    model.save_pretrained(tmp_path / "saved")
    torch.save(model.network.state_dict(), tmp_path / "weights.pth")
    other = write_miniature(tmp_path / "other", train=3, seed=1)
    for source in (tmp_path / "saved", tmp_path / "weights.pth"):
        told, ours = fine_tuned(other, tmp_path / source.stem / "run", source)
        assert told["fresh"] == []
        assert equal(ours, {f"network.{key}": value for key, value in model.network.state_dict().items()}, "")


def test_a_resumed_run_does_not_load_its_first_weights_again(data, parent, tmp_path, monkeypatch):
    source = shutil.copytree(parent.root, tmp_path / "source")
    cfg = job(data, tmp_path / "run", f"init_from={source}")
    with monkeypatch.context() as patch:
        die_at(2, patch)
        with pytest.raises(Killed):
            run_job(cfg)
    shutil.rmtree(source)
    run_job(cfg)
    assert "averaged weights" in record(tmp_path / "run")["init_from"]["source"]
    with pytest.raises(UserError, match="init_from"):
        run_job(job(data, tmp_path / "run", f"init_from={parent.root}"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "init_from: .*weights.pth does not exist"),
        ({"x": torch.zeros(3)}, "init_from: .*weights.pth matches nothing in this network"),
        ({"neck.norms.1.weight": torch.full((32,), torch.nan)}, "init_from: .* not finite"),
        ([1, 2], "does not contain a dictionary of tensors"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_in_one_line(data, tmp_path, content, message):
    if content is not None:
        torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message) as caught:
        train(job(data, tmp_path / "run", f"init_from={tmp_path / 'weights.pth'}", steps=1))
    assert "\n" not in str(caught.value)
