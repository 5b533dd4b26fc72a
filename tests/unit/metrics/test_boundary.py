import json
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.morphology import thin as skimage_thin

from mtlsi_net.metrics.boundary.matching import Matcher
from mtlsi_net.metrics.boundary.metric import BoundaryMetric, Preset, count_matches
from mtlsi_net.metrics.boundary.scores import boundary_scores, precision_recall_f
from mtlsi_net.metrics.boundary.thinning import seg2bmap, thin
from mtlsi_net.utils.errors import UserError

FIXTURE = Path(__file__).parents[2] / "fixtures" / "edge"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
SINGLE = sorted(name for name, case in EXPECTED["cases"].items() if len(case["gt"]) == 1)


def preset_of(config):
    settings = EXPECTED["configs"][config]
    return Preset(
        max_dist=settings["max_dist"],
        nms=settings["nms"],
        thin=settings["thin"],
        thresholds=tuple(EXPECTED["thresholds"][settings["thresholds"]]),
        label_boundaries=False,
    )


@cache
def counts_of(case, config):
    soft = np.asarray(Image.open(FIXTURE / EXPECTED["cases"][case]["pred"]))
    truth = np.asarray(Image.open(FIXTURE / EXPECTED["cases"][case]["gt"][0])) > 0
    return count_matches(soft, truth, preset_of(config))


@pytest.mark.parametrize("config", EXPECTED["configs"])
@pytest.mark.parametrize("case", SINGLE)
def test_counts_equal_the_exact_ones_at_every_threshold(case, config):
    expected = EXPECTED["cases"][case]["counts"][config]
    got = counts_of(case, config)
    shape = (len(got),)
    for column, key in enumerate(("cntR_exact", "sumR", "cntP_exact", "sumP")):
        np.testing.assert_array_equal(got[:, column], np.broadcast_to(expected[key], shape), err_msg=key)


@pytest.mark.parametrize("config", EXPECTED["configs"])
def test_scores_of_the_data_set(config):
    every = np.stack([counts_of(case, config) for case in SINGLE])
    at = np.argmax(precision_recall_f(every)[2], axis=1)
    best = every[np.arange(len(every)), at].sum(axis=0)
    scores = boundary_scores(every.sum(axis=0), best, np.array(preset_of(config).thresholds))
    expected = EXPECTED["dataset"][config]["exact"]
    keys = {"odsF": "ods_f", "oisF": "ois_f", "AP": "ap", "precision": "ods_p", "recall": "ods_r"}
    for ours, theirs in keys.items():
        assert scores[ours] == pytest.approx(expected[theirs], abs=1e-5), ours
    assert scores["threshold"] == preset_of(config).thresholds[expected["ods_idx"]]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), radius=st.floats(0.5, 4.5), density=st.floats(0.02, 0.6))
def test_matching_is_maximum(seed, radius, density):
    rng = np.random.default_rng(seed)
    truth, first, second = (rng.random((11, 9)) < density for _ in range(3))
    border = int(radius) + 1
    matcher, before = Matcher(np.pad(truth, border), radius), np.zeros_like(np.pad(truth, border).ravel())
    for predicted in (first, first | second, second):  # the second and third start from the matching before
        graph = nx.Graph()
        ours = [(0, *p) for p in np.argwhere(truth).tolist()]
        graph.add_nodes_from(ours)
        for p in np.argwhere(predicted).tolist():
            for _, *q in ours:
                if (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 <= radius**2:
                    graph.add_edge((0, *q), (1, *p))
        best = nx.bipartite.hopcroft_karp_matching(graph, ours)
        flat = np.pad(predicted, border).ravel()
        matcher.update(np.flatnonzero(before & ~flat), np.flatnonzero(flat & ~before))
        before = flat
        assert matcher.size == len(best) // 2


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), density=st.floats(0.1, 0.98))
def test_thinning_equals_skimage(seed, density):
    mask = np.random.default_rng(seed).random((23, 31)) < density
    np.testing.assert_array_equal(thin(mask), skimage_thin(mask))


def test_seg2bmap_by_hand():
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 1, 2]])
    expected = np.array([[0, 1, 0], [1, 1, 0], [1, 1, 0]], bool)
    np.testing.assert_array_equal(seg2bmap(labels), expected)


def batch_of(truth, prediction):
    return torch.tensor(prediction, dtype=torch.float32)[None, None], torch.tensor(truth, dtype=torch.float32)[
        None, None
    ]


def square():
    truth = np.zeros((160, 192), np.float32)
    truth[40:120, 48] = truth[40:120, 143] = truth[40, 48:144] = truth[119, 48:144] = 1
    return truth


def test_perfect_prediction_scores_high_and_a_constant_one_low():
    perfect, constant = BoundaryMetric("nyud"), BoundaryMetric("nyud")
    perfect.update(*batch_of(square(), square()))
    constant.update(*batch_of(square(), np.full_like(square(), 0.5)))
    assert perfect.compute()["odsF"] > 0.9
    assert constant.compute()["odsF"] < 0.3


def test_padding_changes_nothing():
    plain, padded = BoundaryMetric("nyud"), BoundaryMetric("nyud")
    soft = square() * 0.7
    plain.update(*batch_of(square(), soft))
    around = ((5, 6), (3, 3))
    padded.update(*batch_of(np.pad(square(), around, constant_values=255), np.pad(soft, around, constant_values=0.9)))
    assert {k: float(v) for k, v in plain.compute().items()} == {k: float(v) for k, v in padded.compute().items()}


def test_wholly_invalid_images_are_skipped():
    metric = BoundaryMetric("plain")
    metric.update(torch.rand(1, 1, 8, 8), torch.full((1, 1, 8, 8), 255.0))
    assert metric.total.sum() == 0


@pytest.mark.parametrize(("truth", "predicted"), [(False, True), (True, False), (False, False)])
def test_empty_truth_or_prediction_gives_zero_without_warning(truth, predicted):
    metric = BoundaryMetric("plain")
    metric.update(*batch_of(square() * truth, square() * predicted))
    assert metric.compute()["odsF"] == 0


def test_two_updates_equal_one_batch():
    rng = np.random.default_rng(0)
    soft = torch.tensor(rng.random((2, 1, 160, 192)), dtype=torch.float32)
    truth = torch.tensor(np.stack([square(), np.roll(square(), 9, axis=1)]))[:, None]
    together, apart = BoundaryMetric("nyud"), BoundaryMetric("nyud")
    together.update(soft, truth)
    for k in range(2):
        apart.update(soft[k : k + 1], truth[k : k + 1])
    assert torch.equal(together.total, apart.total)
    assert torch.equal(together.best, apart.best)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="'nyud'"):
        BoundaryMetric("nyu")
