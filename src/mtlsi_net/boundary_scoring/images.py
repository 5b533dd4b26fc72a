"""One image's counts from its files; apart, so that the processes that count start quickly."""

from pathlib import Path

from mtlsi_net.boundary_scoring import files
from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.presets import Preset
from mtlsi_net.metrics.boundary.scores import Counts
from mtlsi_net.utils.errors import UserError

Job = tuple[Path, list[Path]]
"""Files of the prediction and of its ground truth."""


def count_image(job: Job, preset: Preset) -> Counts | str:
    """Return one image's (thresholds, 4) counts, or in words what is wrong with its files."""
    prediction, truth = job
    try:
        soft, reference = files.read_prediction(prediction), files.read_reference(truth, preset)
        if soft.shape != reference.maps.shape[1:]:
            sizes = " and ".join(f"{size[0]}x{size[1]}" for size in (soft.shape, reference.maps.shape[1:]))
            raise UserError(f"{prediction} and {truth[0]} differ in size ({sizes}); predictions are never resized")
    except UserError as error:
        return str(error)
    return count_matches(soft, true_boundaries(reference, preset), preset)
