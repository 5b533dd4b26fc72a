import csv
import json
import math

import pytest
import torch
from helpers.documents import documented_command, run
from helpers.miniature import compose_config
from helpers.peer import Peer
from PIL import Image

from mtlsi_net.bench import bench
from mtlsi_net.benchmarks.candidates import build_candidates
from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.models.size import measure_size

MTLSI, SHARED, PEER = (
    "mtlsi model.width=32 model.head_dim=32",
    "shared_encoder model.width=32",
    "external model.target=helpers.peer.Peer 'model.options={width: 16}'",
)
PARTS = ("encoder", "decoder", "optimiser")
UNCOUNTED = {"encoder M", "decoder M", "encoder GFLOP", "decoder GFLOP"}
TIMES = ("forward", "train step")


def configuration(out, *overrides, models=(MTLSI, SHARED, PEER)):
    quoted = ", ".join(f'"{model}"' for model in models)
    small = ("data.size=[64,64]", "rounds=2", "device=cpu")
    return compose_config("what=model", f"out={out}", *small, f"models=[{quoted}]", *overrides, name="bench")


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    bench(configuration(folder, "peak_tflops=0.5"))
    return folder


def test_sizes_are_those_of_the_networks(folder):
    cfg = compose_config("data=nyud", "data.size=[64,64]", "model.width=32", "model.head_dim=32")
    network = build_network(cfg, build_tasks(cfg))
    size = measure_size(network, (64, 64))
    ours, shared, peer = read(folder / "model.csv")
    assert [row["model"] for row in (ours, shared, peer)] == [MTLSI, SHARED, PEER]
    assert round(1e6 * float(ours["parameters M"])) == sum(p.numel() for p in network.parameters())
    assert round(1e6 * float(ours["encoder M"])) == sum(p.numel() for p in network.encoder.parameters())
    assert float(ours["GFLOP"]) == pytest.approx(size["gflop"], abs=1e-6)
    assert float(ours["decoder GFLOP"]) == pytest.approx(size["decoder_gflop"], abs=1e-6)
    assert float(shared["decoder M"]) < float(ours["decoder M"])
    assert round(1e6 * float(peer["parameters M"])) == sum(p.numel() for p in Peer(16).parameters())
    shares = {f"{part} % of step" for part in PARTS}
    unknown = {"inference MiB", "training MiB"}
    assert {key for key in peer if not peer[key]} == UNCOUNTED | shares | {"backbone"} | unknown
    assert {key for key in ours if not ours[key]} == unknown


def test_times_are_of_one_run_and_ratios_to_the_first_model(folder):
    rows = read(folder / "model.csv")
    for row in rows:
        for what in TIMES:
            for unit in (f"{what} ms", f"{what} ratio"):
                assert 0 < float(row[f"{unit} low"]) <= float(row[unit]) <= float(row[f"{unit} high"])
        assert float(row["images/s"]) == pytest.approx(1000 / float(row["forward ms"]), rel=1e-2)
    assert [rows[0][f"{what} ratio"] for what in TIMES] == ["1.0", "1.0"]
    record = json.loads((folder / "bench.json").read_text())
    assert {"command", "commit", "hardware", "versions", "settings", "meaning"} <= set(record)
    assert record["settings"]["tasks"] == {"semseg": 40, "depth": 1, "normals": 3, "boundary": 1}
    assert record["rows"][0]["inference MiB"] is None
    assert Image.open(folder / "model.png").width == 1080


def test_a_training_step_tells_its_parts_and_how_busy_the_device_was(folder):
    for row in read(folder / "model.csv")[:2]:
        shares = [float(row[f"{part} % of step"]) for part in PARTS]
        assert min(shares) > 0
        assert 90 < sum(shares) < 100.3
        speed = 3 * float(row["GFLOP"]) / float(row["train step ms"])
        assert float(row["train TFLOP/s"]) == pytest.approx(speed, rel=1e-2, abs=1e-4)
        assert float(row["% of peak"]) == pytest.approx(100 * float(row["train TFLOP/s"]) / 0.5, abs=0.06)


def test_training_can_be_left_out_and_batches_be_larger(tmp_path, capsys):
    changed = ("train=false", "batch_size=2", "precision=bf16-mixed")
    bench(configuration(tmp_path, *changed, models=[SHARED]))
    (row,) = read(tmp_path / "model.csv")
    assert {value for column, value in row.items() if column.startswith(("train", "% of peak"))} == {""}
    assert float(row["images/s"]) == pytest.approx(2000 / float(row["forward ms"]), rel=1e-2)
    assert "batches of 2, 64x64, 4 tasks, CPU" in " ".join(capsys.readouterr().out.split())


def test_candidates_share_the_runs_tasks_size_and_backbone_or_choose_their_own(tmp_path):
    own = f"{SHARED} backbone=resnet18 optim=tuned"
    cfg = configuration(tmp_path, "data=pascal", "~tasks.saliency", "backbone.trainable=none", models=[SHARED, own])
    found = build_candidates(cfg, torch.device("cpu"))
    assert [candidate.backbone for candidate in found.values()] == ["regnetx_002", "resnet18.a1_in1k"]
    for candidate in found.values():
        assert list(candidate.module.tasks) == ["semseg", "human_parts", "normals", "boundary"]
        assert candidate.size["image_size"] == [64, 64]
    assert found[own].module.recipe.ema_decay is not None
    trainable = [any(p.requires_grad for p in c.module.network.encoder.parameters()) for c in found.values()]
    assert trainable == [False, True]


def test_operations_that_cannot_be_counted_are_left_open(tmp_path):
    model = "external model.target=helpers.peer.LooksAtValues"
    (candidate,) = build_candidates(configuration(tmp_path, models=[model]), torch.device("cpu")).values()
    assert math.isnan(candidate.size["gflop"])


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["mtlsj"], "models, 'mtlsj': .*Could not find 'model/mtlsj' .*shared_encoder"),
        (["mtlsi model.widht=32"], r"models, 'mtlsi model.widht=32': .*widht"),
        (["mtlsi 'model.width=32"], "No closing quotation"),
        (["mtlsi data=pascal"], "data must be the same for all models; set it outside models="),
        (
            ["mtlsi model/fusion=nothing"],
            "models, 'mtlsi model/fusion=nothing': .*Could not find 'model/fusion/nothing'",
        ),
        (["mtlsi backbone.name=resnet18"], "backbone.name must be the same for all models"),
        (["model=external"], "models, 'model=external': model.target must be given"),
        (["external model.target=helpers.peer.Strange +model.options.kind=list"], "returned a list"),
        (["mtlsi model.decoder.window=64"], "larger than the decoder's grid"),
        ([SHARED, SHARED], "each once"),
        ([], "at least one model"),
        ([""], "an empty name"),
    ],
)
def test_what_cannot_be_built_ends_in_one_line(tmp_path, models, message):
    with pytest.raises(UserError, match=message) as caught:
        bench(configuration(tmp_path, models=models))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("precision=16", "precision=16 is not known"),
        ("data=folder", "models, 'mtlsi .*': tasks.semseg.classes must be given"),
        ("data.size=???", "models, 'mtlsi .*': data.size must be given"),
        ("device=tpu", "device=tpu is not known"),
    ],
)
def test_settings_that_are_not_known_end_in_one_line(tmp_path, setting, message):
    with pytest.raises(UserError, match=message):
        bench(configuration(tmp_path, setting))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(tmp_path):
    with pytest.raises(UserError, match="device=cuda, but torch finds no GPU"):
        bench(configuration(tmp_path, "device=cuda"))


def test_the_documented_command(tmp_path):
    _, *command = documented_command("bench what=model")
    small = ("data.size=[64,64]", "rounds=1", "train=false", "device=cpu")
    bench(compose_config(*command, *small, f"out={tmp_path}", name="bench"))
    assert len(read(tmp_path / "model.csv")) >= 2


def test_models_of_ones_own_are_found_where_hydra_is_told_to_look(tmp_path):
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf/model/mine.yaml").write_text("defaults: [shared_encoder, _self_]\nwidth: 32\n")
    own = ("--config-dir", "my_conf", "what=model", "models=[mine]", "data.size=[64,64]", "rounds=1", "out=found")
    done = run(tmp_path, "mtlsi_net.bench", *own)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "found/model.csv")[0]["model"] == "mine"
