"""Grids of pictures."""

from mtlsi_net.engine.pictures import write_grid


def test_without_samples_there_is_no_grid(tmp_path):
    write_grid([], {}, tmp_path / "val.png")
    assert not list(tmp_path.iterdir())
