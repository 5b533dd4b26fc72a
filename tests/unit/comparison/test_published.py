import math
import re

import pytest
import yaml
from helpers.documents import DOCUMENTS

from mtlsi_net.comparison import published
from mtlsi_net.comparison.published import load_published
from mtlsi_net.comparison.tables import in_both, operations
from mtlsi_net.metrics.gain import delta_m_percent

RESULTS = load_published()


def one(model, backbone, data):
    (found,) = [r for r in RESULTS if (r.model, r.backbone, r.data) == (model, backbone, data)]
    return found


def test_every_number_has_a_source_a_unit_and_a_checkpoint():
    for result in RESULTS:
        assert len(result.source) > 10
        assert result.data in {"nyud", "pascal", "nyuv2_mtan", "cityscapes_mtan"}
        assert result.protocol in {"lineage", "mtan", "survey", "unknown"}
        assert (result.protocol == "mtan") == result.data.endswith("_mtan")
        assert result.weights in {"last", "best on test", "unknown"}
        assert result.scores or result.size_source
        assert "boundary/odsF" not in result.scores or result.boundary_rules
        if result.size_source:
            assert result.unit in {"FLOP", "MAC", "unknown"}
            assert len(result.size_source) > 10
    assert len({(r.model, r.backbone, r.data) for r in RESULTS}) == len(RESULTS)


def test_numbers_of_the_protocol_page():
    mlore = one("MLoRE", "ViT-L", "pascal")
    assert mlore.scores == {
        "semseg/mIoU": 0.8141,
        "human_parts/mIoU": 0.7052,
        "saliency/maxF_invpt": 0.849,
        "normals/mean": 13.51,
        "boundary/odsF": 0.7542,
    }
    demt = one("DeMT", "Swin-B", "nyud")
    assert demt.scores["depth/rmse"] == 0.5209
    assert (demt.parameters_m, demt.operations_g, demt.unit) == (90.9, 153.65, "unknown")
    counted = one("InvPT, re-run by its author", "ViT-L", "nyud")
    assert (counted.parameters_m, counted.decoder_operations_g, counted.unit) == (402.1, 493, "FLOP")


def test_saliency_of_the_double_sigmoid_never_passes_for_the_probabilitys():
    metrics = {
        r.model: {name.removeprefix("saliency/") for name in r.scores if "saliency" in name}
        for r in RESULTS
        if r.data == "pascal"
    }
    assert metrics["DeMT"] == metrics["ATRC"] == {"maxF"}
    assert metrics["InvPT, paper"] == metrics["TaskPrompter"] == metrics["MLoRE"] == {"maxF_invpt"}
    assert metrics["MTLSI-Net, unverified listing"] == {"maxF_unstated"}


def test_the_papers_own_numbers_are_called_unverified():
    for data in ("nyud", "pascal"):
        assert "unverified" in one("MTLSI-Net, unverified listing", "not stated", data).remarks


def test_directions_and_operations():
    assert one("ATRC", "as cited by InvPT", "nyud").directions == {
        "semseg/mIoU": True,
        "depth/rmse": False,
        "normals/mean": False,
        "boundary/odsF": True,
    }
    assert operations(153.65, math.nan, "unknown") == "whole 153.7"
    assert operations(math.nan, 489, "FLOP") == "decoder 489 (244.5 GMAC)"
    assert operations(math.nan, math.nan, "FLOP") == "-"
    assert in_both(100, "MAC") == "100 (200 GFLOP)"


def test_a_typo_in_the_file_is_met(monkeypatch):
    entry = {"model": "a", "backbone": "b", "data": "nyud", "protocol": "lineage", "weights": "last", "source": "x"}
    assert math.isnan(published._row(entry | {"size": {"source": "y"}}).parameters_m)
    monkeypatch.setattr(yaml, "safe_load", lambda _: {"results": [entry | {"scorse": {}}]})
    with pytest.raises(TypeError, match="scorse"):
        load_published()


def test_the_documented_numbers_are_the_files():
    rows = re.findall(
        r"^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| \[its README\]\(https://([^)]+)\)",
        DOCUMENTS,
        re.M,
    )
    assert len(rows) == 3
    known = {own.model: own for own in load_published() if own.data == "nyud" and own.backbone == "ViT-L"}
    for model, *values, source in rows:
        assert [float(value) for value in values] == list(known[model].scores.values())
        assert source in known[model].source


@pytest.mark.parametrize(("data", "rounding"), [("nyuv2_mtan", 0.4), ("cityscapes_mtan", 0.15)])
def test_delta_m_of_published_scores_is_what_was_published_beside_them(data, rounding):
    """Depth errors are published with two digits on NYUv2, which moves the mean of nine scores by up to 0.4 percent."""
    reference = one("Independent", "MTAN on SegNet", data)
    others = [r for r in RESULTS if r.data == data and r is not reference]
    assert len(others) == 12
    for result in others:
        (published,) = map(float, re.findall(r"Delta m (-?[0-9.]+) %", result.note))
        assert delta_m_percent(result.scores, reference.scores, result.directions) == pytest.approx(
            published, abs=rounding
        )
