import math

import pytest

from mtlsi_net.core.errors import UserError
from mtlsi_net.metrics.gain import delta_m, delta_m_percent, delta_p_percent, relative_gain, skill_over_constant


@pytest.mark.parametrize(
    ("value", "reference", "higher", "gain"), [(0.6, 0.5, True, 0.2), (0.4, 0.5, False, 0.2), (0.5, 0.5, True, 0.0)]
)
def test_relative_gain_is_positive_where_better(value, reference, higher, gain):
    assert relative_gain(value, reference, higher) == pytest.approx(gain)
    assert relative_gain(value, reference, not higher) == pytest.approx(-gain)


def test_delta_m_is_the_mean_over_tasks():
    assert delta_m({"a": 0.6, "b": 30.0}, {"b": 20.0, "a": 0.5}, {"a": True, "b": False}) == pytest.approx(-0.15)


@pytest.mark.parametrize(
    ("multi", "single", "higher", "message"),
    [
        ({}, {}, {}, "no tasks"),
        ({"a": 1.0}, {"b": 1.0}, {"a": True}, "single-task scores"),
        ({"a": 1.0}, {"a": 1.0}, {}, "directions"),
        ({"a": 1.0}, {"a": 0.0}, {"a": True}, "reference score is 0"),
    ],
)
def test_delta_m_refuses_incomplete_scores(multi, single, higher, message):
    with pytest.raises(UserError, match=message):
        delta_m(multi, single, higher)


SINGLE = {"semseg/mIoU": 0.4, "semseg/acc": 0.8, "depth/abs": 0.5, "depth/rel": 0.2, "normals/mean": 25.0}
MULTI = {"semseg/mIoU": 0.42, "semseg/acc": 0.76, "depth/abs": 0.4, "depth/rel": 0.22, "normals/mean": 30.0}
UP = {name: name.startswith("semseg") for name in SINGLE}


def test_delta_m_percent_averages_all_scores_and_is_negative_where_better():
    by_hand = (-5 + 5 - 20 + 10 + 20) / 5  # changes in percent, higher-is-better ones turned round
    assert delta_m_percent(MULTI, SINGLE, UP) == pytest.approx(by_hand)


def test_delta_p_percent_averages_scores_of_a_task_first_and_is_positive_where_better():
    by_hand = ((5 - 5) / 2 + (20 - 10) / 2 - 20) / 3
    assert delta_p_percent(MULTI, SINGLE, UP) == pytest.approx(by_hand)
    with pytest.raises(UserError, match="no scores"):
        delta_p_percent({}, {}, {})


def test_delta_p_percent_refuses_a_missing_task():
    less = {name: value for name, value in MULTI.items() if not name.startswith("normals")}
    with pytest.raises(UserError, match=r"Delta_p: single-task scores cover the scores .*normals/mean"):
        delta_p_percent(less, SINGLE, UP)
    with pytest.raises(UserError, match="Delta_p: directions"):
        delta_p_percent(MULTI, SINGLE, {name: UP[name] for name in less})


@pytest.mark.parametrize(
    ("value", "constant", "higher", "gain"),
    [
        (1.0, 0.2, True, 1.0),
        (0.2, 0.2, True, 0.0),
        (0.6, 0.2, True, 0.5),
        (0.0, 1.2, False, 1.0),
        (1.2, 1.2, False, 0.0),
        (2.4, 1.2, False, -1.0),
        (0.0, 0.0, False, 0.0),
        (0.1, 0.0, False, -math.inf),
        (0.9, 1.0, True, -math.inf),
    ],
)
def test_skill_over_constant_is_the_share_of_error_removed(value, constant, higher, gain):
    assert skill_over_constant(value, constant, higher) == pytest.approx(gain)


def test_skill_over_constant_keeps_nan():
    assert math.isnan(skill_over_constant(math.nan, 0.5, True))
