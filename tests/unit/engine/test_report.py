import csv

import numpy as np
from PIL import Image

from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.report import print_classes, publish, write_confusions
from mtlsi_net.tasks.base import Confusion
from mtlsi_net.tasks.depth import DepthTask

COUNTS = np.array([[7, 2, 1], [0, 0, 0], [3, 0, 2**40]])


def test_a_confusion_matrix_becomes_a_table_and_a_picture(tmp_path):
    confusions = {"val": {"semseg": Confusion(("wall", "floor, wooden", "bed"), COUNTS)}, "train": {}}
    write_confusions(confusions, RunFolder(tmp_path))
    with (tmp_path / "confusion" / "val_semseg.csv").open() as file:
        (_, *columns), *rows = csv.reader(file)
    assert columns == ["wall", "floor, wooden", "bed"]
    assert [row[0] for row in rows] == columns
    assert np.array_equal(np.array([row[1:] for row in rows], np.int64), COUNTS)
    with Image.open(tmp_path / "confusion" / "val_semseg.png") as picture:
        assert min(picture.size) > 300
    assert len(list((tmp_path / "confusion").iterdir())) == 2


def test_brackets_and_colons_in_names_are_printed_as_they_are(tmp_path, capsys):
    scores = {"depth": {"rmse": 0.5}}
    publish({"[/old] run": scores, "[b]new[/b]": scores}, {"depth": DepthTask()}, "/data/[set]", RunFolder(tmp_path))
    print_classes({"semseg": {"[lamp]": {"IoU": 0.5, "pixels": 3}, ":bed:": {"IoU": 0.5, "pixels": 3}}})
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("[/old] run", "[b]new[/b]", "/data/[set]", "[lamp]", ":bed:"))


def test_pictures_can_be_left_out_and_without_classes_there_is_no_folder(tmp_path):
    write_confusions({"val": {}}, RunFolder(tmp_path))
    assert not (tmp_path / "confusion").exists()
    write_confusions({"val": {"semseg": Confusion(("a", "b", "c"), COUNTS)}}, RunFolder(tmp_path), pictures=False)
    assert [path.name for path in (tmp_path / "confusion").iterdir()] == ["val_semseg.csv"]
