"""The benchmarks of scaling, training steps, scoring, start-up and rooms, each at its smallest size."""

import csv
import importlib.util
import json
import math

import pandas as pd
import pytest
from helpers.miniature import compose_config
from PIL import Image

from mtlsi_net.bench import bench
from mtlsi_net.benchmarks import prediction, scoring, startup
from mtlsi_net.benchmarks.scaling import fit, fits
from mtlsi_net.core.errors import UserError

OURS, INVPT = "mtlsi model.width=32 model.head_dim=32", "invpt model.width=32"


def run(what, out, *overrides):
    bench(compose_config(f"what={what}", f"out={out}", "rounds=2", "device=cpu", *overrides, name="bench"))
    record = json.loads((out / "bench.json").read_text())
    assert {"command", "commit", "hardware", "versions", "settings", "meaning", "rows"} <= set(record)
    assert Image.open(out / f"{what}.png").width > 500
    return read(out / f"{what}.csv")


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def assert_timings(rows):
    assert (rows[0]["ratio"], rows[0]["ratio low"]) == ("1.0", "1.0")
    for row in rows:
        assert 0 < float(row["ms low"]) <= float(row["ms"]) <= float(row["ms high"])
        assert float(row["a second"]) == pytest.approx(1000 / float(row["ms"]), rel=0.01)


def test_training_steps_take_turns(tmp_path):
    rows = run("train", tmp_path, "data.size=[64,64]", f'models=["{OURS}","{INVPT}"]')
    assert [row["what"] for row in rows] == [OURS, INVPT]
    assert_timings(rows)


def test_start_up_is_compared_with_the_first_command(tmp_path, monkeypatch):
    commands = {"nothing": ["-c", "pass"], "json": ["-m", "json.tool", "--help"]}
    monkeypatch.setattr(startup, "COMMANDS", commands)
    rows = run("startup", tmp_path)
    assert [row["what"] for row in rows] == list(commands)
    assert_timings(rows)


def test_rooms_of_every_size_are_rendered(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = run("rooms", tmp_path, "images=1", "rooms.sizes=[[16,24],[32,48]]")
    assert [row["what"] for row in rows] == ["16x24", "32x48"]
    assert_timings(rows)
    assert caplog.messages[-1].endswith(f": open {tmp_path / 'rooms.png'}")
    assert (tmp_path / "rooms.png").is_file()


@pytest.mark.parametrize(("data", "count"), [("nyud", 4), ("pascal", 5)])
def test_every_metric_is_timed(tmp_path, data, count):
    files = [f"boundary.{key}=tests/fixtures/edge/c00_clean_{key}.png" for key in ("pred", "gt")]
    rows = run("scoring", tmp_path, f"data={data}", *files)
    assert [row["what"] for row in rows[:2]] == [scoring.ALL, scoring.REST]
    assert len(rows) == 2 + 2 * count
    assert_timings(rows)
    metric = next(row for row in rows if row["what"] == "boundary: metric")
    assert float(metric["ms"]) < float(rows[0]["ms"])


@pytest.mark.slow  # sixteen processes
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs the extra export")
def test_prediction_of_a_folder_is_timed_by_both_runtimes(tmp_path, trained):
    settings = ("rounds=1", "images=2", "predict.size=[32,40]", f"predict.ckpt={trained.run.root}")
    rows = run("predict", tmp_path, *settings)
    names = [row["what"].split(", ")[:2] for row in rows]
    for names_of in ([kind for kind in names if kind[0] == runtime] for runtime in ("PyTorch", "ONNX Runtime")):
        assert {kind for _, kind in names_of} == {"everything", "pictures only"}
    assert all(float(row["images a second"]) > 0 and float(row["peak MiB"]) > 100 for row in rows)
    with pytest.raises(UserError, match=r"mtlsi_net.export .* failed: .*nowhere"):
        run("predict", tmp_path, f"predict.ckpt={tmp_path / 'nowhere'}")


def test_prediction_is_timed_of_a_trained_model_only(tmp_path):
    with pytest.raises(UserError, match="needs a trained model: predict"):
        run("predict", tmp_path)


def test_a_process_that_dies_without_a_word_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "PINS", False)
    (tmp_path / "silent").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "silent").chmod(0o755)
    monkeypatch.setattr(prediction.sys, "executable", str(tmp_path / "silent"))
    with pytest.raises(UserError, match=r"mtlsi_net\.\w+ .* failed: exit code -9, probably out of memory"):
        run("predict", tmp_path / "out", f"predict.ckpt={tmp_path}", f"predict.input={tmp_path}", "rounds=1")


def test_decoders_grow_with_pixels_tasks_and_scales(tmp_path):
    small = ("scaling.channels=16", "scaling.tasks=[1,5]", "scaling.scales=[1,2]", "scaling.time_gflop=0.2")
    rows = run(
        "scaling", tmp_path, "rounds=1", f'scaling.models=["{OURS}"]', "scaling.sizes=[[64,64],[128,128]]", *small
    )
    of = {(row["over"], row["model"], float(row["value"])): row for row in rows}
    assert len(rows) == len(of) == 2 + 2 + 2
    assert {row["tasks"] for row in rows if row["over"] == "tasks"} == {"1", "5"}
    for (over, model, value), row in of.items():
        assert float(row["saved MiB"]) < float(row["peak MiB"])
        assert (row["forward ms"] != "") == (float(row["GFLOP"]) <= 0.2)
        larger = [r for (o, m, v), r in of.items() if (o, m) == (over, model) and v > value]
        assert all(float(r["GFLOP"]) > float(row["GFLOP"]) for r in larger)
    fitted = {(row["over"], row["model"]): row for row in read(tmp_path / "fits.csv")}
    assert 0.8 < float(fitted["pixels", OURS]["GFLOP exponent"]) < 1.1
    with pytest.raises(UserError, match="a curve needs at least two sizes"):
        run("scaling", tmp_path, "scaling.sizes=[[64,64]]")


def test_exponents_of_known_curves():
    rows = [
        {
            "over": "pixels",
            "model": name,
            "value": x,
            "GFLOP": cost(x),
            "saved MiB": cost(x),
            "peak MiB": math.nan,
            "forward ms": math.nan,
        }
        for name, cost in (("linear", lambda x: 8 * x), ("square", lambda x: 0.5 * x**2))
        for x in (1.0, 2.0, 4.0)
    ]
    linear, square = fits(rows)
    assert (linear["GFLOP exponent"], square["GFLOP exponent"]) == (1, 2)
    assert math.isnan(linear["forward ms exponent"])
    slope, offset = fit(pd.DataFrame({"value": [1.0, 10.0], "GFLOP": [3.0, 3000.0]}), "GFLOP")
    assert (slope, math.exp(offset)) == pytest.approx((3, 3))
