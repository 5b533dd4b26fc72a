"""Pairs of predicted and true boundary maps: which files belong together, how they are read, and one pair's counts."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.types import Reference
from mtlsi_net.data.files import read_pixels
from mtlsi_net.data.official import OFFICIAL
from mtlsi_net.data.pascal_labels import load_mat, read_label_map
from mtlsi_net.data.reader import names_in, read_lines
from mtlsi_net.metrics.boundary.arrays import SMALLEST
from mtlsi_net.metrics.boundary.counting import count_matches, true_boundaries
from mtlsi_net.metrics.boundary.presets import Preset
from mtlsi_net.metrics.boundary.scores import Counts

Job = tuple[Path, list[Path]]
"""Files of a prediction and of its ground truth."""

FEW = 8
"""Ground truths that are looked at to tell maps of segments from boundaries."""


def predictions_in(folder: Path) -> dict[str, Path]:
    """Return id -> PNG of a folder of predictions; a UserError if there is none."""
    if not folder.is_dir():
        raise UserError(f"pred={folder} is no folder; give the one that holds <id>.png of every image")
    found = {Path(name).stem: folder / name for name in sorted(names_in(folder)) if name.endswith(".png")}
    if not found:
        raise UserError(f"pred={folder} holds no PNG; boundary maps are 8-bit PNGs named <id>.png")
    return found


def truths_in(folder: Path, ids: Iterable[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return id -> files of a folder of ground truths, one for each annotator or one ``.mat`` of all, and other names.

    Raises:
        UserError: the folder is missing.
    """
    if not folder.is_dir():
        raise UserError(f"gt={folder} is no folder; give the one that holds the ground truth of every image")
    names = {name for name in names_in(folder) if name.endswith((".png", ".mat"))}
    annotators: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):  # 2 before 10
        if numbered := re.fullmatch(r"(.+)_\d+\.png", name):
            annotators.setdefault(numbered[1], []).append(name)
    found: dict[str, list[Path]] = {}
    for sample_id in ids:
        single = [name for suffix in (".png", ".mat") if (name := f"{sample_id}{suffix}") in names][:1]
        if own := single or annotators.get(sample_id, []):
            found[sample_id] = [folder / name for name in own]
            names.difference_update(own)
    return found, sorted(names)


def choose_ids(
    predictions: Mapping[str, Path], truths: Mapping[str, list[Path]], others: Sequence[str], data_set: str | None
) -> dict[str, tuple[str, ...]]:
    """Return the ids to score, and which of ``core.types.SCORE_GROUPS`` each counts in.

    On a published data set (``data_set``, of ``OFFICIAL``) the ids are those of its test list; what is not predicted of it
    makes the score a partial one. Elsewhere every prediction needs a ground truth and every ground truth a prediction;
    ``others`` are names of ground truths of no prediction. A UserError names what is missing or in excess.
    """
    official = set(OFFICIAL[data_set].ids("val")) if data_set else set()
    published = data_set if official & predictions.keys() else None
    if published:
        extra = predictions.keys() - official
        _refuse(extra, f"predictions are not in the official test list of {data_set}", "remove them")
    _refuse(predictions.keys() - truths.keys(), "predictions have no ground truth", "add it or remove them")
    if published:
        return OFFICIAL[published].score_groups(sorted(predictions))
    _refuse(others, "ground truths have no prediction", "add it, or name the images to score with ids=FILE")
    return dict.fromkeys(sorted(predictions), ("",))


def _refuse(names: Collection[str], what: str, remedy: str) -> None:
    """Raise a UserError that counts and names ``names``, if there are any."""
    if names:
        raise UserError(f"{len(names)} {what} ({shown(sorted(names))}); {remedy}")


def check_values(predictions: Iterable[Path]) -> str | None:
    """Return what to say of predictions that probably hold 0 and 1 instead of shares of 255, judging by the first ones."""
    highest = [int(read_prediction(path).max()) for path, _ in zip(predictions, range(FEW), strict=False)]
    if max(highest) != 1:
        return None
    return f"the largest value of the first {len(highest)} predictions is 1, a share of 1/255; store 255 times the probability"


def check_ids(predictions: Collection[str], path: Path) -> None:
    """Raise a UserError unless ``predictions`` are those that a text file lists, an id a line, with or without suffix."""
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"ids={path} cannot be read ({error}); give a text file with one id a line") from None
    ids: set[str] = set()
    for line in lines:
        whole = next((name for name in (line, line.removesuffix(".png")) if name in predictions), None)
        several = set(line.split())
        ids |= {whole} if whole else {line} if several.isdisjoint(predictions) else several
    if not ids:
        raise UserError(f"ids={path} lists no image; give a text file with one id a line")
    remedy = "make predictions and list agree"
    _refuse(ids.difference(predictions), "listed ids have no prediction", remedy)
    _refuse(set(predictions) - ids, "predictions are not in the list of ids", remedy)


def read_prediction(path: Path) -> NDArray[np.uint8]:
    """Return an (H, W) boundary map, trunc(255 * probability); a UserError if it is no such picture or too small."""
    soft = read_pixels(path, "share")
    if min(soft.shape) < SMALLEST:
        raise UserError(
            f"{path}: {soft.shape[0]}x{soft.shape[1]} pixels are too few; both sides need at least {SMALLEST}"
        )
    return soft


def read_reference(paths: Sequence[Path], preset: Preset) -> Reference:
    """Return the ground truth of one image; a UserError if it is neither boundaries nor segments, or sizes differ."""
    if paths[0].suffix == ".mat":
        return _read_mat(paths[0])
    maps = _stacked(paths[0], [read_pixels(path, "L" if preset.truth == "labels" else "share") for path in paths])
    if preset.truth == "labels":
        return Reference(maps, "labels")
    for path, stored in zip(paths, maps, strict=True):
        values = set(np.unique(stored).tolist())
        if not (values <= {0, 1} or values <= {0, 255}):
            raise UserError(
                f"{path}: ground truth holds {len(values)} values ({shown(map(str, sorted(values)))}); boundaries are 0 "
                "and 255 (if these are maps of segments, set truth=labels)"
            )
    return Reference(np.where(maps > 0, np.uint8(255), np.uint8(0)), "boundaries")


def check_kind(truths: Iterable[Sequence[Path]], preset: Preset) -> None:
    """Raise a UserError if the first ground truths, to be read as maps of segments, hold 0 and 255 only: boundaries."""
    pictures = [paths[0] for paths in truths if paths[0].suffix == ".png"][:FEW]
    if preset.truth == "labels" and pictures and all(set(np.unique(read_pixels(p, "L"))) <= {0, 255} for p in pictures):
        raise UserError(
            f"{pictures[0]} and others hold only 0 and 255, but the preset takes ground truth for maps of segments; "
            "if these are boundaries, set truth=boundaries"
        )


def _stacked(path: Path, maps: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return annotators' maps (H, W) as one array (A, H, W)."""
    sizes = sorted({stored.shape for stored in maps})
    if len(sizes) > 1:
        raise UserError(
            f"{path}: annotators' maps differ in size ({', '.join(map(str, sizes))}); store them at one size"
        )
    return np.stack(maps)


def _read_mat(path: Path) -> Reference:
    """Return BSDS's ``groundTruth`` (boundaries by all annotators) or PASCAL-Context's ``LabelMap``."""
    key, stored = load_mat(path, ("groundTruth", "LabelMap"))
    if key == "LabelMap":
        return Reference(read_label_map(path)[None], "labels")
    try:
        maps = _stacked(path, [np.asarray(annotation["Boundaries"][0, 0]) for annotation in stored.ravel()])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: 'groundTruth' is not BSDS's structure ({error}); replace the file") from None
    return Reference(np.where(maps > 0, np.uint8(255), np.uint8(0)), "boundaries")


def count_image(job: Job, preset: Preset) -> Counts | str:
    """Return one image's (thresholds, 4) counts, or in words what is wrong with its files."""
    prediction, truth = job
    try:
        soft, reference = read_prediction(prediction), read_reference(truth, preset)
        if soft.shape != reference.maps.shape[1:]:
            sizes = " and ".join(f"{height}x{width}" for height, width in (soft.shape, reference.maps.shape[1:]))
            raise UserError(f"{prediction} and {truth[0]} differ in size ({sizes}); predictions are never resized")
    except UserError as error:
        return str(error)
    return count_matches(soft, true_boundaries(reference, preset), preset)
