import csv
import json

import pytest
from helpers.miniature import compose_config
from PIL import Image

from mtlsi_net.bench import bench

PLAIN = "mtlsi model.width=32 model.head_dim=32"
RECOMPUTED = f"{PLAIN} activation_checkpointing=true"
SHARED = "shared_encoder model.width=32"


def configuration(out, *overrides, models=(PLAIN, RECOMPUTED)):
    quoted = ", ".join(f'"{model}"' for model in models)
    small = ("data.size=[64,64]", "backbone.name=test_vit", "device=cpu")
    return compose_config("what=memory", f"out={out}", *small, f"models=[{quoted}]", *overrides, name="bench")


def test_checkpointing_needs_less_and_all_is_written(tmp_path):
    found = bench_rows(tmp_path)
    plain, recomputed = (found[name] for name in (PLAIN, RECOMPUTED))
    for what in ("parameters", "gradients", "optimiser"):
        assert plain[f"{what} MiB"] == recomputed[f"{what} MiB"]
    assert float(plain["optimiser MiB"]) == pytest.approx(2 * float(plain["parameters MiB"]), abs=0.1)
    assert float(recomputed["saved activations MiB"]) < 0.5 * float(plain["saved activations MiB"])
    assert float(recomputed["counted peak MiB"]) < float(plain["counted peak MiB"])
    record = json.loads((tmp_path / "bench.json").read_text())
    assert {"command", "commit", "hardware", "versions", "settings", "meaning", "rows"} <= set(record)
    assert Image.open(tmp_path / "memory.png").width == 1080


def bench_rows(folder, *overrides, **options):
    bench(configuration(folder, *overrides, **options))
    with (folder / "memory.csv").open() as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def test_more_images_need_more_and_precision_counts(tmp_path):
    one, two, half = (
        float(bench_rows(tmp_path, *more, models=[SHARED])[SHARED]["saved activations MiB"])
        for more in ((), ("batch_size=2",), ("precision=bf16-mixed",))
    )
    assert 1.9 * one < two < 2.3 * one
    assert half != one
