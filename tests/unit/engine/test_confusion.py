import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from mtlsi_net.engine.confusion import draw_confusion
from mtlsi_net.tasks.base import Confusion


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that draws a matrix and returns its axis."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (figures.append(self), save(self, *args, **kw))[1])

    def draw(names, counts):
        draw_confusion(Confusion(tuple(names), np.asarray(counts)), "semseg (val)", tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 1000
        return figures[-1].axes[0]

    return draw


def test_rows_are_shares_of_the_labelled_class_and_those_without_labels_are_grey(drawn):
    axis = drawn("abc", [[6, 2, 0], [0, 0, 0], [0, 0, 5]])
    shares = np.ma.filled(axis.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0], [np.nan] * 3, [0, 0, 1]])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]
    assert sorted(text.get_text() for text in axis.texts) == sorted(["0.75", "0.25", "0.00", "0.00", "0.00", "1.00"])
    grey = matplotlib.colors.to_rgba(axis.images[0].get_cmap().get_bad())
    assert grey == pytest.approx((0.8, 0.8, 0.8, 1))


def test_of_many_classes_those_that_occur_are_drawn(drawn):
    counts = np.zeros((1000, 1000), int)
    counts[7, 300] = counts[999, 7] = 2
    axis = drawn([f"c{k}" for k in range(1000)], counts)
    assert axis.get_title() == "semseg (val): 3 of 1000 classes occur"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["c7", "c300", "c999"]
    shares = np.ma.filled(axis.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(shares, [[0, 1, 0], [np.nan] * 3, [1, 0, 0]])
    assert not drawn([f"c{k}" for k in range(70)], np.eye(70, dtype=int)).get_xticklabels()
    drawn([f"c{k}" for k in range(70)], np.zeros((70, 70), int))  # no labels at all
