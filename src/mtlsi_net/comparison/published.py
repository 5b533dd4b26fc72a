"""Results of others as they were published, each with its source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

import yaml

SHARES = ("mIoU", "maxF", "maxF_invpt", "maxF_unstated", "odsF")
"""Metrics that are published in percent; shown as fractions, as ours are."""

LOWER = ("rmse", "mean")
"""Metrics of which lower is better."""


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        model: name, and which of several runs.
        protocol: ``lineage`` is comparable with ours, the others are not.
        weights: which checkpoint was scored.
        source: where the scores were read.
        boundary_rules: how odsF was taken.
        scores: ``task/metric`` -> value, fractions, metres and degrees.
        unit: what operations count: ``FLOP`` (2 a multiply-add), ``MAC`` (1), ``unknown``; empty without a size.
        parameters_m: in millions; the decoder's where they were counted alone.
        operations_g: in billions, likewise.
    """

    model: str
    backbone: str
    data: str
    protocol: Literal["lineage", "survey", "unknown"]
    weights: Literal["last", "best on test", "unknown"]
    source: str
    boundary_rules: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    note: str = ""
    size_source: str = ""
    unit: Literal["FLOP", "MAC", "unknown", ""] = ""
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
        """All that must stand beside the numbers, in words."""
        weights = "checkpoint not stated" if self.weights == "unknown" else f"{self.weights} checkpoint"
        boundaries, size = self.boundary_rules, self.size_source
        parts = [self.source, weights, boundaries and f"odsF: {boundaries}", self.note, size and f"size: {size}"]
        return "; ".join(filter(None, parts))


def load_published() -> list[Published]:
    """Return all that is shipped."""
    text = resources.files("mtlsi_net.comparison").joinpath("published.yaml").read_text()
    return [_row(entry) for entry in yaml.safe_load(text)["results"]]


def _row(entry: Mapping[str, Any]) -> Published:
    scores = {
        name: round(value / 100, 6) if name.partition("/")[2] in SHARES else float(value)
        for name, value in entry.get("scores", {}).items()
    }
    size = {"unit": "unknown", **entry["size"]} if "size" in entry else {}
    rest = {key: value for key, value in entry.items() if key != "size"} | {"scores": scores}
    return Published(size_source=size.pop("source", ""), **rest, **size)
