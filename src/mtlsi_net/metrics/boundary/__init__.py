"""Boundary F-measure (odsF, oisF, AP) without MATLAB; the algorithm is the edge-evaluation page's."""

from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.metric import BoundaryMetric
from mtlsi_net.metrics.boundary.presets import PRESETS, Preset, make_preset
from mtlsi_net.metrics.boundary.scores import boundary_scores

__all__ = [
    "PRESETS",
    "BoundaryMetric",
    "Preset",
    "boundary_scores",
    "count_matches",
    "make_preset",
    "true_boundaries",
]
