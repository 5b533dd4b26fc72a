"""The figure of the scores, measured as it is drawn."""

from itertools import combinations

import pytest
from helpers.run_folders import make_run
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mtlsi_net.comparison.gains import Gain
from mtlsi_net.comparison.identity import Group
from mtlsi_net.comparison.page import draw_scores, row_labels
from mtlsi_net.comparison.tables import Table

LONG = "model=mtlsi trainer.precision=auto loss_norm=device trainer.sync_batchnorm=False"
SCORES = {"semseg": {"mIoU": 0.5}, "depth": {"rmse": 0.6}, "boundary": {"odsF_partial": 0.7}}


def table_of(folder, labels, differs=()):
    groups = [Group(label, (make_run(folder / str(n), SCORES),)) for n, label in enumerate(labels)]
    gains = {label: Gain((0.01 * n,), {}, "") for n, label in enumerate(labels, 1)}
    return Table(2, groups, differs, gains, {}, [], [], [])


@pytest.mark.parametrize(
    ("labels", "differs"),
    [
        (["one"], ()),
        ([LONG, "model=invpt", f"{LONG} data.label_share={{depth:0.05}}", "x" * 50], ()),
        ([f"model.width={number}" for number in range(30)], ["labels of semseg (0123abcd against 89abcdef)"] * 4),
    ],
)
def test_no_text_of_the_figure_lies_on_another_or_outside(tmp_path, labels, differs):
    figure = draw_scores(table_of(tmp_path, labels, differs))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [figure._suptitle, *(axis.title for axis in figure.axes), *figure.axes[0].get_yticklabels()]
    boxes = {text.get_text(): text.get_window_extent() for text in texts if text.get_text()}
    assert len(boxes) == 1 + 4 + len(labels)
    for (first, one), (second, two) in combinations(boxes.items(), 2):
        assert not one.overlaps(two), (first, second)
    width, height = canvas.get_width_height()
    for name, box in boxes.items():
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= width, name
        assert box.y1 <= height, name


def test_marks_of_a_row_are_at_its_label(tmp_path):
    figure = draw_scores(table_of(tmp_path, [LONG, "b", "c"]))
    axis = figure.axes[-1]  # the gain: 1, 2 and 3 %
    ticks = dict(zip((label.get_text() for label in figure.axes[0].get_yticklabels()), axis.get_yticks(), strict=True))
    marks = {line.get_xdata()[0]: line.get_ydata()[0] for line in axis.lines if line.get_marker() == "o"}
    named = {"b": 2.0, "c": 3.0, next(name for name in ticks if name.startswith("model=mtlsi")): 1.0}
    assert {name: ticks[name] for name in named} == pytest.approx({name: marks[gain] for name, gain in named.items()})
    assert ticks["c"] < ticks["b"] < max(ticks.values())  # the first row is on top


def test_row_labels_lose_the_first_words_that_all_have():
    assert row_labels(["a model=x", "a model=y z", "a"]) == ["model=x", "model=y z", "a"]
    assert row_labels(["a b"]) == ["b"]
