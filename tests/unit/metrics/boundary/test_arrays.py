import numpy as np
import pytest
import torch

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import Reference
from mtlsi_net.metrics.boundary.arrays import soft_maps
from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure

TRUTH = np.zeros((160, 200), np.uint8)
TRUTH[:, 100] = 255
FOUND = np.zeros((160, 200), np.uint8)
FOUND[:, 101] = FOUND[:80, 20] = 204
AS_TRUTHS = {
    "bytes": TRUTH,
    "zeros and ones": TRUTH // 255,
    "integers": (TRUTH // 255).astype(np.int64),
    "booleans": TRUTH > 0,
    "floats": TRUTH / 255,
    "tensor of bytes": torch.from_numpy(TRUTH),
    "tensor of zeros and ones": torch.from_numpy(TRUTH // 255),
    "tensor of floats": torch.from_numpy(TRUTH / 255).float(),
    "one annotator": TRUTH[None],
    "reference of zeros and ones": Reference(TRUTH[None] // 255, "boundaries"),
    "reference of a tensor": Reference(torch.from_numpy(TRUTH[None]), "boundaries"),
}
AS_PREDICTIONS = {
    "bytes": FOUND,
    "floats": FOUND / 255 + 1e-4,
    "tensor": torch.from_numpy(FOUND / 255 + 1e-4).float(),
    "bfloat16": (torch.from_numpy(FOUND) / 256).bfloat16() + 0.001,
    "channel": torch.from_numpy(FOUND)[None],
    "needs gradients": (torch.from_numpy(FOUND / 255 + 1e-4)).requires_grad_(),
}


def scores(preset, predictions, truths):
    metric = BoundaryFMeasure(preset)
    metric.update(predictions, truths)
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("preset", ["nyud", "bsds", "plain"])
@pytest.mark.parametrize("truth", AS_TRUTHS.values(), ids=AS_TRUTHS)
def test_a_truth_counts_the_same_in_every_form(preset, truth):
    expected = scores(preset, [torch.from_numpy(FOUND / 255)[None]], [Reference(TRUTH[None], "boundaries")])
    assert 0 < expected["odsF"] < 1
    assert scores(preset, [FOUND], [truth]) == expected


def test_the_score_of_this_example_by_hand():
    """160 true pixels, all met one column aside; 240 predicted ones, of which 80 are far from any."""
    assert scores("plain", FOUND, TRUTH // 255)["odsF"] == pytest.approx(2 * (160 / 240) / (160 / 240 + 1))


@pytest.mark.parametrize("prediction", AS_PREDICTIONS.values(), ids=AS_PREDICTIONS)
def test_a_prediction_counts_the_same_in_every_form(prediction):
    assert scores("plain", [prediction], [TRUTH]) == pytest.approx(scores("plain", FOUND, TRUTH), abs=0.01)


def test_zeros_and_ones_are_sure_predictions():
    for found in soft_maps([TRUTH // 255, TRUTH > 0, np.zeros_like(TRUTH) + (TRUTH > 0)]):
        np.testing.assert_array_equal(found, TRUTH)


def test_a_faint_image_among_bytes_stays_faint():
    """Whether integers are 0 and 1 is decided for the batch, not for each image."""
    faint = (TRUTH > 0).astype(np.uint8)
    batch = torch.from_numpy(np.stack([FOUND, faint]))
    np.testing.assert_array_equal(soft_maps(list(batch)), batch)
    np.testing.assert_array_equal(soft_maps([FOUND, TRUTH > 0])[1], TRUTH)  # booleans are what they are
    metric = BoundaryFMeasure("plain")
    metric.update(batch, np.stack([TRUTH, TRUTH]))
    assert metric.total[0, -1, 3] == 0, "nothing is predicted at the highest threshold"


def test_probabilities_are_truncated_and_truths_rounded():
    half = np.full((3, 3), 0.5)
    assert soft_maps([half])[0][0, 0] == 127
    metric = BoundaryFMeasure("plain")
    metric.update(half, half)  # 0.5 is a boundary
    assert metric.total[0, 0, 1] == 9


@pytest.mark.parametrize(
    ("predictions", "truths"),
    [
        (np.stack([FOUND, FOUND]), np.stack([TRUTH, TRUTH])),
        (torch.from_numpy(np.stack([FOUND, FOUND]))[:, None], [TRUTH, TRUTH]),
        ([FOUND, FOUND], torch.from_numpy(np.stack([TRUTH, TRUTH]))[:, None]),
    ],
    ids=["arrays", "batch with a channel", "batch of truths"],
)
def test_batches(predictions, truths):
    metric = BoundaryFMeasure("plain")
    metric.update(predictions, truths)
    alone = BoundaryFMeasure("plain")
    alone.update(FOUND, TRUTH)
    assert metric.images.sum() == 2
    assert torch.equal(metric.total, 2 * alone.total)


def test_the_rules_stand_in_a_metrics_name_in_one_line():
    shown = repr(BoundaryFMeasure("nyud"))
    assert "max_dist=0.011" in shown
    assert len(shown) < 130


def test_annotators_of_one_image():
    together = np.stack([TRUTH, np.roll(TRUTH, -80, 1)])  # the second one marks a line at column 20 instead
    metric = BoundaryFMeasure("plain")
    metric.update(FOUND, together)
    matched, true, confirmed, predicted = metric.total[0, 50].tolist()
    assert (true, confirmed, predicted) == (320, 240, 240)
    assert matched == 240


def test_segments_are_taken_as_they_are():
    segments = np.ones((160, 200), np.int32)
    segments[:, 101:] = 284
    segments[:, 150:] = 7
    by_reference = scores("pascal", FOUND, [Reference(segments[None], "labels")])
    assert scores("pascal", FOUND, segments) == by_reference
    assert scores("pascal", torch.from_numpy(FOUND), torch.from_numpy(segments)) == by_reference
    assert by_reference["odsF"] > 0


@pytest.mark.parametrize(
    "truth", [TRUTH, TRUTH // 255, TRUTH > 0, TRUTH / 255], ids=["bytes", "zeros and ones", "booleans", "floats"]
)
def test_boundaries_for_a_preset_of_segments_are_refused(truth):
    with pytest.raises(InputError, match=r"maps of segments.*Reference\(maps, 'boundaries'\)"):
        scores("pascal", FOUND, truth)


@pytest.mark.parametrize(
    ("predictions", "truths", "message"),
    [
        (FOUND / 100, TRUTH, r"prediction holds float64 from 0 to 2.04; pass probabilities in \[0, 1\]"),
        (np.where(FOUND > 0, np.nan, 0), TRUTH, "prediction holds float64 from nan to nan"),
        (FOUND.astype(int) - 9, TRUTH, "prediction holds integers from -9 to 195; pass probabilities in .* or bytes"),
        (FOUND, TRUTH.astype(int) * 4, "truth holds integers from 0 to 1020; pass 1 at boundaries, else 0"),
        (FOUND, np.where(np.eye(160, 200) > 0, 1, TRUTH), "truth holds 0, 1 and 255, so that"),
        (FOUND, TRUTH / 10, "truth holds float64 from 0 to 25.5"),
        (FOUND, "edges.png", "map is a str; pass a numpy array"),
        ([[0, 1]], [TRUTH], "map is a list; pass a numpy array"),
        (FOUND[0], TRUTH, r"predictions have shape \(200,\); pass \(B, 1, H, W\)"),
        (np.stack([FOUND] * 3)[None], [TRUTH], r"prediction has shape \(3, 160, 200\)"),
        (FOUND[:2], TRUTH[:2], r"shape \(2, 200\); .* both sides at least 3"),
        (FOUND, [TRUTH[0]], r"truth has shape \(200,\)"),
        ([FOUND, FOUND], [TRUTH], "2 boundary predictions, but 1 truths"),
        (FOUND, TRUTH[:, :50], r"shape \(160, 200\), but its ground truth \(160, 50\)"),
    ],
)
def test_what_is_neither_is_refused_in_one_line(predictions, truths, message):
    with pytest.raises(InputError, match=message) as refused:
        scores("plain", predictions, truths)
    assert "\n" not in str(refused.value)
