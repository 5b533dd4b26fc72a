"""Published results of other methods, each with its source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

import yaml

WITHIN = ("within_11.25_mtan", "within_22.5_mtan", "within_30_mtan")
SHARES = ("mIoU", "pixel_accuracy", "maxF", "maxF_invpt", "maxF_unstated", "odsF", *WITHIN)
"""Metrics that are published in percent; converted to fractions."""

LOWER = ("rmse", "mean", "abs_err_mtan", "abs_rel_mtan", "mean_mtan", "median_mtan")
"""Metrics of which lower is better."""


@dataclass(frozen=True)
class Published:
    """One published row; parameters in millions and operations in billions, the decoder's where these were counted alone."""

    model: str  # name, and which of several runs
    backbone: str
    data: str
    protocol: Literal["lineage", "mtan", "survey", "unknown"]  # only the first two are comparable with our runs
    weights: Literal["last", "best on test", "unknown"]  # which checkpoint was scored
    source: str  # where the scores are published
    boundary_rules: str = ""  # how odsF was measured
    scores: dict[str, float] = field(default_factory=dict)  # ``task/metric`` -> fractions, metres and degrees
    note: str = ""
    size_source: str = ""
    unit: Literal["FLOP", "MAC", "unknown", ""] = (
        ""  # of operations: 2 FLOP or 1 MAC a multiply-add; empty without a size
    )
    parameters_m: float = math.nan
    decoder_parameters_m: float = math.nan
    operations_g: float = math.nan
    decoder_operations_g: float = math.nan

    @property
    def directions(self) -> dict[str, bool]:
        """``task/metric`` -> higher is better, of the scores."""
        return {name: name.partition("/")[2] not in LOWER for name in self.scores}

    @property
    def remarks(self) -> str:
        """Source and caveats of the numbers, in words."""
        weights = "checkpoint not stated" if self.weights == "unknown" else f"{self.weights} checkpoint"
        boundaries, size = self.boundary_rules, self.size_source
        parts = [self.source, weights, boundaries and f"odsF: {boundaries}", self.note, size and f"size: {size}"]
        return "; ".join(filter(None, parts))


def load_published() -> list[Published]:
    """Return all published results that ship with the package."""
    text = resources.files("mtlsi_net.comparison").joinpath("published.yaml").read_text()
    return [_row(entry) for entry in yaml.safe_load(text)["results"]]


def _row(entry: Mapping[str, Any]) -> Published:
    scores = {
        name: round(value / 100, 6) if name.partition("/")[2] in SHARES else float(value)
        for name, value in entry.get("scores", {}).items()
    }
    size = {"unit": "unknown", **entry["size"]} if "size" in entry else {}
    fields = {key: value for key, value in entry.items() if key != "size"} | {"scores": scores}
    return Published(size_source=size.pop("source", ""), **fields, **size)
