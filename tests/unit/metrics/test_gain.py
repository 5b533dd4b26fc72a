import math

import pytest

from mtlsi_net.core.errors import UserError
from mtlsi_net.metrics.gain import delta_m, gain_over_constant, relative_gain


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
def test_gain_over_constant_is_the_share_of_error_removed(value, constant, higher, gain):
    assert gain_over_constant(value, constant, higher) == pytest.approx(gain)


def test_gain_over_constant_keeps_nan():
    assert math.isnan(gain_over_constant(math.nan, 0.5, True))
