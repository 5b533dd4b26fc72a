import csv

import pytest
from helpers.commands import forked_workers
from helpers.miniature import compose_config
from PIL import Image

from mtlsi_net.bench import bench
from mtlsi_net.benchmarks import boundary
from mtlsi_net.core.errors import UserError


def test_boundary_bench_leaves_table_plot_and_record(tmp_path, monkeypatch):
    monkeypatch.setattr(boundary, "COPIES", 4)
    files = [f"boundary.{key}=tests/fixtures/edge/c00_clean_{key}.png" for key in ("pred", "gt")]
    with forked_workers():
        bench(compose_config("what=boundary", "rounds=2", f"out={tmp_path}", *files, name="bench"))
    with (tmp_path / "boundary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows] == list(boundary.SETTINGS)
    for row in rows:
        assert float(row["low ms"]) <= float(row["ms"]) <= float(row["high ms"])
        assert float(row["s for 654, one core"]) == pytest.approx(0.654 * float(row["ms"]), abs=0.01)
    assert Image.open(tmp_path / "boundary.png").width == 960


def test_missing_pictures_are_named(tmp_path):
    with pytest.raises(UserError, match=r"boundary.pred=nowhere\.png is not a file"):
        bench(compose_config("what=boundary", f"out={tmp_path}", "boundary.pred=nowhere.png", name="bench"))
