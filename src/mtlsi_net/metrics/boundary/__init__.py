"""Boundary F-measure (odsF, oisF, AP) without MATLAB; the steps are in docs/protocol/boundary.md."""
