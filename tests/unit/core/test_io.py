import json
import math

import pytest

from mtlsi_net.core.io import atomic_file, flatten, read_history, write_csv, write_history, write_json


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path):
    path, kept = tmp_path / "a.bin", tmp_path / "before.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_file(path, keep=kept) as file:
        file.writelines([b"half", "no bytes"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    with atomic_file(path, keep=kept) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert (path.read_bytes(), kept.read_bytes()) == (b"new", b"old")
    assert len(list(tmp_path.iterdir())) == 2


def test_json_has_null_for_what_is_not_finite(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1.5, math.nan, (math.inf,)], 2: {"b": -math.inf}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None, [None]], "2": {"b": None}}


def test_a_history_comes_back_without_empty_cells_and_a_torn_last_line(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_history(path) == []
    write_history(path, [{"step": 0, "loss": 0.5}, {"step": 1, "rate": 0.0, "a,b": 'x"y'}])
    rows = [{"step": "0", "loss": "0.5"}, {"step": "1", "rate": "0.0", "a,b": 'x"y'}]
    assert read_history(path) == rows
    path.write_text(path.read_text() + "1.0,2.0")
    assert read_history(path) == rows


def test_a_csv_file_quotes_what_needs_it(tmp_path):
    write_csv(tmp_path / "a.csv", ["id", "x"], [["a,b", 1], ["ä", None]])
    assert (tmp_path / "a.csv").read_bytes() == 'id,x\n"a,b",1\nä,\n'.encode()


def test_nested_mappings_become_dotted_names():
    assert flatten({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}, 3: None}) == {
        "a.b": 1,
        "a.c.d": [1, {"e": 2}],
        "f": {},
        "3": None,
    }
    assert flatten({"a": {"b": 1}}, "/") == {"a/b": 1}


def test_a_history_of_an_earlier_version_comes_back_with_the_names_of_today(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,val/gain,val/depth/rmse\n0,0.25,1.5\n")
    assert read_history(path) == [{"step": "0", "val/skill": "0.25", "val/depth/rmse": "1.5"}]
