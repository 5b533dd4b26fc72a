"""Which rows may stand in one table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtlsi_net.comparison.gains import Gain
from mtlsi_net.comparison.groups import Group, Key
from mtlsi_net.comparison.identity import Identity
from mtlsi_net.comparison.intervals import Intervals
from mtlsi_net.comparison.published import Published
from mtlsi_net.specs import score_name
from mtlsi_net.utils.run_folder import histories

ARROWS = {True: "↑", False: "↓"}


@dataclass(frozen=True)
class Row:
    """A group with all that is said about it."""

    group: Group
    gain: Gain
    intervals: Intervals

    def size(self, key: str) -> float:
        """Return one of ``ModelSize``, NaN if it is not recorded."""
        value = self.group.first.model.get(key)
        return float(value) if isinstance(value, int | float) else math.nan

    @property
    def training_speed(self) -> float:
        """Training images a second, validation on the way included; NaN if not recorded, or of the last part only."""
        config, seconds = self.group.first.config, self.group.first.record.get("seconds", {})
        if len(histories(self.group.first.folder)) > 1:  # resumed
            return math.nan
        try:
            return float(config["trainer"]["max_steps"] * config["data"]["batch_size"] / seconds["fit"])
        except (KeyError, TypeError, ZeroDivisionError):
            return math.nan


@dataclass
class Table:
    """Rows whose scores can be compared: no two differ in the data or the rules of a task that both have.

    Attributes:
        groups: of the rows.
        identities: of the groups.
        differs: what tells it from the first table; empty for the first.
        rows: filled in last.
        published: results of others on the same data; never in ``rows``.
        notes: what a reader must know.
    """

    groups: list[Group]
    identities: list[Identity]
    differs: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def data(self) -> str:
        """Name of the data and which of their images were scored."""
        first = self.groups[0].first
        places = [first.record.get("data"), first.config.get("data")]
        told = [place.get(key) for place, key in zip(places, ("name", "root"), strict=True) if isinstance(place, dict)]
        return f"{Path(str(next(filter(None, told), 'data'))).name}, {first.stage} images"

    def columns(self) -> dict[Key, bool]:
        """Return (task, metric) -> higher is better: main metrics, then others that published results have too."""
        main = {(task, metric): higher for group in self.groups for task, (metric, higher) in group.first.main.items()}
        others = {
            key: higher
            for result in self.published
            for key, higher in result.directions().items()
            if any(group.values(key) for group in self.groups)
        }
        return main | {key: higher for key, higher in others.items() if key not in main}

    def best(self, key: Key) -> float:
        """Return the best mean of our rows, NaN if there is none."""
        means = [mean for group in self.groups if math.isfinite(mean := group.mean(key))]
        return (max if self.columns()[key] else min)(means, default=math.nan)


def heading(key: Key, higher: bool) -> str:
    """Return a column's heading."""
    return f"{key[0]} {key[1]} {ARROWS[higher]}"


def split_tables(groups: Sequence[Group]) -> list[Table]:
    """Return tables in the order of the groups; a group joins the first table that it differs from in nothing."""
    tables: list[Table] = []
    for group in groups:
        fitting = (t for t in tables if not any(group.identity.differences(own) for own in t.identities))
        table = next(fitting, None)
        if table is None:
            found = [own.differences(group.identity) for first in tables[:1] for own in first.identities]
            tables.append(Table([group], [group.identity], next(filter(None, found), [])))
        else:
            table.groups.append(group)
            table.identities.append(group.identity)
    return tables


def scored_partially(table: Table) -> bool:
    """Return whether a score of the table is taken over a part of the published images."""
    return any(metric.endswith(score_name("", "partial")) for _, metric in table.columns())
