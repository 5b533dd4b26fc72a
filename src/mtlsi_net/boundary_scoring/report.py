"""What a boundary scoring leaves: counts, one line an image, a summary, and the precision-recall plot."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mtlsi_net.metrics.boundary.presets import Preset
from mtlsi_net.metrics.boundary.scores import Counts, f_measure, precision_recall
from mtlsi_net.utils.io import write_csv

matplotlib.use("Agg")

COUNTS = ("cntR", "sumR", "cntP", "sumP")
ISO_F = np.arange(0.1, 1, 0.1)


def write_counts(path: Path, counts: Counts, preset: Preset) -> None:
    """Write one line a threshold, (thresholds, 4) counts summed over images."""
    write_csv(
        path, ("threshold", *COUNTS), ((t, *row) for t, row in zip(preset.thresholds, counts.tolist(), strict=True))
    )


def write_images(path: Path, found: Mapping[str, Counts], preset: Preset) -> None:
    """Write one line an image: F, precision, recall and counts at its own best threshold."""
    rows = []
    for sample_id, counts in found.items():
        precision, recall = precision_recall(counts, preset.interpolate)
        f = f_measure(precision, recall)
        at = int(np.argmax(f))
        scores = (f"{value:.6f}" for value in (f[at], precision[at], recall[at]))
        rows.append((sample_id, preset.thresholds[at], *scores, *counts[at].tolist()))
    write_csv(path, ("id", "threshold", "F", "precision", "recall", *COUNTS), rows)


def draw_curve(path: Path, counts: Counts, preset: Preset, name: str, best: Mapping[str, float], title: str) -> None:
    """Draw precision over recall on lines of equal F, the point of odsF marked.

    Args:
        path: of the PNG.
        counts: (thresholds, 4), summed over images.
        preset: the rules.
        name: of the score, ``odsF`` or ``odsF_partial``.
        best: ``odsF``, ``precision``, ``recall`` and ``threshold`` of that point.
        title: of the plot.
    """
    precision, recall = precision_recall(counts, preset.interpolate)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for f in ISO_F:
        r = np.linspace(f / (2 - f), 1, 100)  # precision reaches 1 at the left end
        axes.plot(r, f * r / (2 * r - f), color="tab:green", linewidth=0.5, alpha=0.6)
        axes.annotate(f"F={f:.1f}", (1, f / (2 - f)), (2, 0), textcoords="offset points", fontsize=6, color="tab:green")
    drawn = counts[:, 3] > 0  # without a predicted pixel precision is a convention
    axes.plot(recall[drawn], precision[drawn], color="tab:red")
    label = f"{name} {best['odsF']:.4f} at {best['threshold']:.3g}"
    axes.plot([best["recall"]], [best["precision"]], "o", color="tab:red", label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=title, aspect="equal")
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120)
