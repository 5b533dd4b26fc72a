"""A network from outside through train and evaluate."""

import json
import math

import pytest
import torch
from helpers.documents import documented_command, documented_files, run
from helpers.miniature import compose_config, short_overrides, write_miniature
from helpers.peer import CHANNELS, Peer
from helpers.run_folders import last_scores
from PIL import Image

from mtlsi_net.analysis.probe import probe
from mtlsi_net.core.errors import UserError
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.engine.build import build_data, build_tasks
from mtlsi_net.engine.evaluate import evaluate
from mtlsi_net.engine.train import train
from mtlsi_net.tasks.metrics import TaskMetrics, postprocess

PEER = ("model=external", "model.target=helpers.peer.Peer")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"))


def evaluation(folder, *overrides):
    quiet = ("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "pictures=1")
    return compose_config(f"paths.run_dir={folder}", *quiet, *overrides, name="evaluate")


def on(data, *overrides):
    return ("data=nyud", f"data.root={data}", "data.num_workers=0", "data.size=[48,64]", *overrides)


def test_it_is_scored_like_our_own_networks(data, tmp_path, capsys):
    peer = Peer().eval()
    torch.save(peer.state_dict(), tmp_path / "peer.pth")
    settings = (f"model.weights_file={tmp_path}/peer.pth", "print_classes=true")
    result = evaluate(evaluation(tmp_path / "run", *PEER, *on(data), *settings))
    assert "night stand" in capsys.readouterr().out
    metrics = json.loads(result.folder.metrics.read_text())
    assert metrics["model"]["decoder_gflop"] is None
    assert metrics["model"]["gflop"] > 0
    assert math.isfinite(metrics["constant"]["val"]["depth"]["rmse"])
    assert "helpers.peer.Peer" in result.folder.table.read_text()
    assert Image.open(result.folder.pictures / "val.png").width > 500
    assert json.loads(result.folder.record.read_text())["data"]["name"] == "nyud"

    cfg = compose_config(*on(data))
    tasks = build_tasks(cfg)
    by_hand = TaskMetrics(tasks)
    data = build_data(cfg, tasks)
    for stored in data.val_dataloader():
        batch = batch_values(stored, data.targets)
        with torch.no_grad():
            small = peer(batch["image"])
        size = batch["image"].shape[-2:]
        outputs = {n: torch.nn.functional.interpolate(y, size, mode="bilinear") for n, y in small.items()}
        by_hand.update(postprocess(tasks, outputs), batch)
    for name, scores in by_hand.compute().items():
        assert metrics["last"]["val"][name] == pytest.approx(scores, rel=1e-5), name


def test_it_is_trained_and_evaluated_like_our_own(data, tmp_path, capsys):
    overrides = [o for o in short_overrides(data, tmp_path / "run") if not o.startswith("model.")]
    torch.save(Peer().state_dict(), tmp_path / "peer.pth")
    weights = f"model.weights_file={tmp_path / 'peer.pth'}"
    result = train(compose_config(*overrides, *PEER, weights, "~model.width", "optim.lr=0.1"))
    assert set(last_scores(result.folder.root)) == set(CHANNELS)
    (tmp_path / "peer.pth").unlink()  # the checkpoint has its own
    checkpoint = f"ckpt={result.folder.checkpoints / 'last.ckpt'}"
    with pytest.raises(UserError, match=r"names helpers\.peer\.Peer.*trust=\[helpers\]"):
        evaluate(evaluation(tmp_path / "refused", checkpoint))
    capsys.readouterr()
    found = evaluate(evaluation(tmp_path / "evaluated", checkpoint, "trust=[helpers]"))
    assert "night stand" not in capsys.readouterr().out  # every class is printed on request alone
    ours, theirs = (json.loads(folder.metrics.read_text())["last"]["val"] for folder in (found.folder, result.folder))
    assert ours == theirs
    with pytest.raises(UserError, match="the probe supports only networks of this suite"):
        probe(compose_config(checkpoint, "trust=helpers", f"paths.run_dir={tmp_path / 'probed'}", name="probe"))


def test_the_documented_commands(data, tmp_path):
    (tmp_path / "my_model.py").write_text(documented_files()["my_model.py"])
    quick = ("data.num_workers=0", "data.size=[48,64]", "trainer.enable_progress_bar=false")
    for command in ("evaluate model=external model.target=my_model", "train experiment=nyud model=external"):
        name = command.partition(" ")[0]
        short = ("trainer.max_steps=1", "logger=csv") if name == "train" else ()
        words = (*documented_command(command, NYUDv2=data), *quick, *short, f"paths.run_dir={name}")
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert "semseg mIoU" in (tmp_path / name / "table.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "give a checkpoint of this suite, ckpt=FILE, or model=external"),
        (["data=nyud"], "give a checkpoint of this suite"),
        ([*PEER], "model=external needs data=nyud"),
        (["model=external", "data=nyud"], "model.target must be given"),
        ([*PEER, "data=nyud", "data.root=nowhere"], "data folder nowhere does not exist"),
        (["model=shared_encoder", "data=nyud"], "SharedEncoderNet needs a backbone; .* ckpt=FILE"),
        (
            ["ckpt=last.ckpt", *PEER, "data=nyud"],
            "holds data, tasks and model; leave out model=",
        ),
        (["ckpt=last.ckpt", "task_set=nyud"], "leave out task_set="),
    ],
)
def test_half_a_request_ends_in_one_line(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        evaluate(evaluation(tmp_path, *overrides))


def test_the_probe_needs_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="ckpt=FILE must be given"):
        probe(compose_config(f"paths.run_dir={tmp_path}", name="probe"))
