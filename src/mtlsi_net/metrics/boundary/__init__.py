"""Boundary F-measure (odsF, oisF, AP) without MATLAB; the algorithm is the edge-evaluation page's."""

from mtlsi_net.metrics.boundary.metric import PRESETS, BoundaryMetric, Preset
from mtlsi_net.metrics.boundary.scores import boundary_scores

__all__ = ["PRESETS", "BoundaryMetric", "Preset", "boundary_scores"]
