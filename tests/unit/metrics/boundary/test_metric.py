import json
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from helpers.two_processes import boundary_scores as boundary_scores_of_processes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import linear_sum_assignment
from skimage.morphology import thin as skimage_thin

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import SUBSET, Reference
from mtlsi_net.metrics.boundary.assignment import NearestMatcher
from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.matching import NONE, Matcher
from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure
from mtlsi_net.metrics.boundary.presets import Preset, make_preset
from mtlsi_net.metrics.boundary.scores import best_of, boundary_scores
from mtlsi_net.metrics.boundary.thinning import seg2bmap, thin

FIXTURE = Path(__file__).parents[3] / "fixtures" / "edge"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
SINGLE = sorted(name for name, case in EXPECTED["cases"].items() if len(case["gt"]) == 1)


def preset_of(config):
    settings = EXPECTED["configs"][config]
    return Preset(
        max_dist=settings["max_dist"],
        nms=settings["nms"],
        thin=settings["thin"],
        thresholds=tuple(EXPECTED["thresholds"][settings["thresholds"]]),
        compare={">": "gt", ">=": "ge"}[settings["compare"]],
        truth="boundaries",
    )


@cache
def counts_of(case, config):
    soft = np.asarray(Image.open(FIXTURE / EXPECTED["cases"][case]["pred"]))
    truths = [np.asarray(Image.open(FIXTURE / name)) > 0 for name in EXPECTED["cases"][case]["gt"]]
    return count_matches(soft, truths, preset_of(config))


@pytest.mark.parametrize("config", EXPECTED["configs"])
@pytest.mark.parametrize("case", SINGLE)
def test_counts_equal_the_exact_ones_at_every_threshold(case, config):
    expected = EXPECTED["cases"][case]["counts"][config]
    got = counts_of(case, config)
    shape = (len(got),)
    for column, key in enumerate(("cntR_exact", "sumR", "cntP_exact", "sumP")):
        np.testing.assert_array_equal(got[:, column], np.broadcast_to(expected[key], shape), err_msg=key)


@pytest.mark.parametrize("config", EXPECTED["configs"])
def test_several_annotators(config):
    expected = EXPECTED["cases"]["c13_multigt"]["counts"][config]
    got = counts_of("c13_multigt", config)
    for column, key in enumerate(("cntR_exact", "sumR", "cntP_exact", "sumP")):
        wanted = np.broadcast_to(expected[key], (len(got),))
        # Which pixels equally near matchings take is open, and with it how many any annotator confirms.
        tolerance = np.maximum(3, 0.005 * wanted) if key == "cntP_exact" else 0
        assert (np.abs(got[:, column] - wanted) <= tolerance).all(), key


@pytest.mark.parametrize("config", EXPECTED["configs"])
def test_scores_of_the_data_set(config):
    every = np.stack([counts_of(case, config) for case in SINGLE])
    best = np.sum([best_of(counts) for counts in every], axis=0)
    scores = boundary_scores(every.sum(axis=0), best, np.array(preset_of(config).thresholds))
    expected = EXPECTED["dataset"][config]["exact"]
    keys = {"odsF": "ods_f", "oisF": "ois_f", "AP": "ap", "precision": "ods_p", "recall": "ods_r"}
    for ours, theirs in keys.items():
        assert scores[ours] == pytest.approx(expected[theirs], abs=1e-5), ours
    assert scores["threshold"] == preset_of(config).thresholds[expected["ods_idx"]]


def changing_predictions(seed, density):
    """Return a truth and three predictions; the second and third start from the matching before."""
    rng = np.random.default_rng(seed)
    truth, first, second = (rng.random((11, 9)) < density for _ in range(3))
    return truth, (first, first | second, second)


def matchings(kind, truth, predictions, radius):
    """Yield the matcher after every change."""
    border = int(radius) + 1
    matcher, before = kind(np.pad(truth, border), radius), np.zeros_like(np.pad(truth, border).ravel())
    for predicted in predictions:
        flat = np.pad(predicted, border).ravel()
        matcher.update(np.flatnonzero(before & ~flat), np.flatnonzero(flat & ~before))
        before = flat
        yield matcher


def distances(truth, predicted):
    """Return the distance of every predicted (row) to every true pixel (column)."""
    return np.linalg.norm(np.argwhere(predicted)[:, None] - np.argwhere(truth)[None], axis=2)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), radius=st.floats(0.5, 4.5), density=st.floats(0.02, 0.6))
def test_matching_is_maximum(seed, radius, density):
    truth, predictions = changing_predictions(seed, density)
    for matcher, predicted in zip(matchings(Matcher, truth, predictions, radius), predictions, strict=True):
        near = distances(truth, predicted) <= radius
        graph = nx.Graph()
        graph.add_nodes_from((0, p) for p in range(len(near)))
        graph.add_edges_from(((0, int(p)), (1, int(g))) for p, g in np.argwhere(near))
        best = nx.bipartite.hopcroft_karp_matching(graph, [(0, p) for p in range(len(near))])
        assert matcher.size == len(best) // 2


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**31), radius=st.floats(0.5, 4.5), density=st.floats(0.02, 0.6))
def test_nearest_matching_is_maximum_and_of_least_distance(seed, radius, density):
    truth, predictions = changing_predictions(seed, density)
    for matcher, predicted in zip(matchings(NearestMatcher, truth, predictions, radius), predictions, strict=True):
        apart = distances(truth, predicted)
        prices = np.where(apart <= radius, apart - 1e4, 0.0)  # a match is worth more than all distances together
        rows, columns = linear_sum_assignment(prices)
        pairs = prices[rows, columns] < 0
        assert matcher.size == pairs.sum()
        taken = np.flatnonzero(matcher.owner != NONE)
        width = truth.shape[1] + 2 * (int(radius) + 1)
        steps = np.stack(np.divmod(taken, width)) - np.stack(np.divmod(matcher.owner[taken], width))
        assert np.linalg.norm(steps, axis=0).sum() == pytest.approx(apart[rows, columns][pairs].sum(), abs=1e-2)
        assert len(set(matcher.owner[taken])) == matcher.size
        assert np.pad(predicted, int(radius) + 1).ravel()[taken].all()


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), density=st.floats(0.1, 0.98))
def test_thinning_equals_skimage(seed, density):
    mask = np.random.default_rng(seed).random((23, 31)) < density
    np.testing.assert_array_equal(thin(mask), skimage_thin(mask))


def test_seg2bmap_by_hand():
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 1, 2]])
    expected = np.array([[0, 1, 0], [1, 1, 0], [1, 1, 0]], bool)
    np.testing.assert_array_equal(seg2bmap(labels), expected)


def test_regions_that_touch_at_a_corner_only_are_apart():
    labels = np.array([[1, 2], [2, 1]])
    stored = Reference(labels[None], "labels")
    # Without relabelling the pixel at the upper left would equal its lower right neighbour; here all four differ.
    np.testing.assert_array_equal(
        true_boundaries(stored, make_preset("pascal"))[0], thin(seg2bmap(np.array([[1, 2], [3, 4]])))
    )


def test_truth_of_preset_pascal_by_hand():
    """Two regions side by side: the last pixel of the left one, thinned nothing; class numbers do not matter."""
    labels = np.full((6, 7), 284)
    labels[:, 3:] = 31
    expected = np.zeros((6, 7), bool)
    expected[:, 2] = True
    np.testing.assert_array_equal(
        true_boundaries(Reference(labels[None], "labels"), make_preset("pascal"))[0], expected
    )


def test_truth_of_preset_nyud_by_hand():
    """A line of boundary pixels, taken for a label map, has two sides; thinning leaves one line beside it."""
    stored = np.zeros((6, 9), np.uint8)
    stored[:, 4] = 255
    two_sides = np.zeros((6, 9), bool)
    two_sides[:, 3:5] = True
    np.testing.assert_array_equal(seg2bmap(stored), two_sides)
    reference = Reference(stored[None], "boundaries")
    np.testing.assert_array_equal(true_boundaries(reference, make_preset("nyud"))[0], skimage_thin(two_sides))
    np.testing.assert_array_equal(true_boundaries(reference, make_preset("bsds"))[0], stored > 0)


def reference_of(truth, *groups):
    return Reference((np.atleast_3d(truth.T).T * 255).astype(np.uint8), "boundaries", groups or ("",))


def scored(preset, truth, prediction, **options):
    metric = BoundaryFMeasure(preset, **options)
    metric.update([torch.tensor(prediction, dtype=torch.float32)[None]], [reference_of(truth)])
    return metric


def square():
    truth = np.zeros((160, 192), np.float32)
    truth[40:120, 48] = truth[40:120, 143] = truth[40, 48:144] = truth[119, 48:144] = 1
    return truth


def test_perfect_prediction_scores_high_and_a_constant_one_low():
    assert scored("nyud", square(), square()).compute()["odsF"] > 0.9
    assert scored("nyud", square(), np.full_like(square(), 0.5)).compute()["odsF"] < 0.3


def test_images_without_annotators_are_skipped_and_none_left_is_nan():
    metric = BoundaryFMeasure("plain")
    metric.update([torch.rand(1, 8, 8)], [Reference(np.empty((0, 8, 8), np.uint8), "boundaries")])
    assert metric.images.sum() == 0
    assert metric.compute()["odsF"].isnan()


@pytest.mark.parametrize("preset", ["plain", "bsds"])
@pytest.mark.parametrize(("truth", "predicted"), [(False, True), (True, False), (False, False)])
@pytest.mark.filterwarnings("error")
def test_empty_truth_or_prediction_gives_zero_without_warning(truth, predicted, preset):
    assert scored(preset, square() * truth, square() * predicted).compute()["odsF"] == 0


def test_images_that_count_in_no_score_are_not_counted_at_all(monkeypatch):
    monkeypatch.setattr(BoundaryFMeasure, "_count", lambda *_: pytest.fail("counted in vain"))
    metric = BoundaryFMeasure("plain")
    metric.update([torch.rand(1, 40, 48)], [Reference(np.zeros((1, 40, 48), np.uint8), "boundaries", ())])
    assert metric.images.sum() == 0


def test_an_estimate_without_images_does_not_call_itself_the_score():
    assert set(BoundaryFMeasure("plain", estimate=True).compute()) == {"odsF_subset"}


def test_two_updates_equal_one_batch():
    rng = np.random.default_rng(0)
    soft = torch.tensor(rng.random((2, 1, 160, 192)), dtype=torch.float32)
    references = [reference_of(square()), reference_of(np.roll(square(), 9, axis=1))]
    together, apart = BoundaryFMeasure("nyud"), BoundaryFMeasure("nyud")
    together.update(list(soft), references)
    for k in range(2):
        apart.update([soft[k]], [references[k]])
    assert torch.equal(together.total, apart.total)
    assert torch.equal(together.best, apart.best)


def test_processes_agree_on_the_counts_of_all_of_them(tmp_path):
    rng = np.random.default_rng(0)
    soft = list(torch.tensor(rng.random((3, 1, 40, 48)), dtype=torch.float32))
    references = [reference_of((rng.random((40, 48)) < 0.05) * 1.0) for _ in soft]
    alone = BoundaryFMeasure("plain")
    alone.update(soft, references)
    expected = {key: float(value) for key, value in alone.compute().items()}
    shares = [(soft[:2], references[:2]), (soft[2:], references[2:])]  # uneven
    assert boundary_scores_of_processes(shares, tmp_path) == [expected, expected]


def test_scores_are_named_after_the_images_they_are_taken_over():
    rng = np.random.default_rng(0)
    soft = list(torch.tensor(rng.random((3, 1, 40, 48)), dtype=torch.float32))
    truths = rng.random((3, 40, 48)) < 0.05
    groups = [("", "all", SUBSET), ("all",), ("", "all")]
    metric, estimate = BoundaryFMeasure("plain"), BoundaryFMeasure("plain", estimate=True)
    for each in (metric, estimate):
        each.update(soft, [reference_of(truth * 1.0, *own) for truth, own in zip(truths, groups, strict=True)])
    scores, estimated = metric.compute(), estimate.compute()
    assert (scores["images"], scores["images_all"], scores["images_subset"]) == (2, 3, 1)
    assert "odsF_partial" not in scores
    for key, chosen in {"odsF": (0, 2), "odsF_all": (0, 1, 2), "odsF_subset": (0,)}.items():
        alone = BoundaryFMeasure("plain")
        alone.update([soft[k] for k in chosen], [reference_of(truths[k] * 1.0) for k in chosen])
        assert scores[key] == alone.compute()["odsF"]
    assert set(estimated) == {"odsF_subset", "images_subset"}
    assert estimated["odsF_subset"] == scores["odsF_subset"]


def test_between_thresholds_bsds_finds_more():
    """F peaks between two thresholds that trade precision for recall; the finest grid by brute force finds the same."""
    counts = np.array([[90, 100, 90, 300], [50, 100, 50, 55]])
    thresholds = np.array([0.25, 0.5])
    r, p = counts[:, 0] / counts[:, 1], counts[:, 2] / counts[:, 3]
    share = np.linspace(0, 1, 100)
    between_r, between_p = (x[0] * (1 - share) + x[1] * share for x in (r, p))
    best = (2 * between_p * between_r / (between_p + between_r)).max()
    assert best > max(2 * p * r / (p + r))
    assert boundary_scores(counts, counts[0], thresholds, interpolate=True)["odsF"] == pytest.approx(best, abs=1e-12)
    assert boundary_scores(counts, counts[0], thresholds)["odsF"] == pytest.approx(max(2 * p * r / (p + r)), abs=1e-12)


def test_sizes_must_agree():
    with pytest.raises(UserError, match=r"\(8, 9\).*\(8, 8\)"):
        scored("plain", np.zeros((8, 8)), np.zeros((8, 9)))


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="'nyud'"):
        BoundaryFMeasure("nyu")


def test_presets_can_be_changed():
    changed = make_preset(
        "nyud", {"max_dist": 0.02, "nms": False, "thin": None, "compare": "ge", "thresholds": [0.2, 0.5]}
    )
    assert changed == Preset(0.02, False, True, (0.2, 0.5), "ge", "boundaries_as_labels")
    assert len(make_preset("bsds", {"thresholds": "hed"}).thresholds) == 101
    assert len(make_preset("nyud", {"thresholds": 99}).thresholds) == 99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_dist": 0}, "max_dist=0: give a share"),
        ({"max_dist": "abc"}, "max_dist=abc: give a share"),
        ({"compare": "gte"}, "compare=gte"),
        ({"truth": "edges"}, "truth=edges"),
        ({"nms": "off"}, "nms=off: give true or false"),
        ({"thin": "no"}, "thin=no: give true or false"),
        ({"thresholds": [0.5, 0.2]}, "rising numbers between 0 and 1"),
        ({"thresholds": [0.5, 1.0]}, "rising numbers between 0 and 1"),
        ({"thresholds": "hd"}, "thresholds=hd"),
    ],
)
def test_wrong_changes_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make_preset("nyud", changes)
