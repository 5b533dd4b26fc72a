"""Boundary F-measure (odsF, oisF, AP) without MATLAB; the algorithm is the edge-evaluation page's."""
