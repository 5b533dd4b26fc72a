"""Preparation of a data set from official files: images, labels and split lists, resumable."""

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image
from rich.progress import track

from mtlsi_net.core.config import check_complete, check_options
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import atomic_file, write_json, write_text
from mtlsi_net.data.digests import SPLITS
from mtlsi_net.data.official import OFFICIAL
from mtlsi_net.data.prepared import PREPARED, read_prepared
from mtlsi_net.data_tools.nyu_mat import LabelledFile, NyuMat, open_labelled
from mtlsi_net.engine.record import describe_run

log = logging.getLogger(__name__)

FLOATS = ".npy"
SUFFIXES = {"depth": FLOATS}
"""Folder -> suffix of its files, where not ``.png``."""


def prepare(cfg: DictConfig) -> Path:
    """Write the data set of ``cfg.source`` and ``cfg.file`` to ``cfg.out``, and return that folder.

    Images whose files are all there are skipped, so that the same command continues an interrupted one.

    Raises:
        UserError: a source that another command takes, a file that cannot be used, or a folder of something else.
    """
    check_complete(cfg)
    check_options(cfg.source, "source")
    source = instantiate(cfg.source, _convert_="all")
    if not isinstance(source, NyuMat):
        raise UserError("this source lists mirrors for the command download; prepare takes source=nyu_mat")
    out = Path(cfg.out).expanduser()
    with open_labelled(Path(cfg.file).expanduser()) as labelled:
        marker = _claim(out, source, labelled)
        try:
            _write_images(out, source, labelled, cfg.progress)
        except OSError as error:
            raise UserError(
                f"{error.filename or out} cannot be written ({error.strerror}); fix this, then run the same command again"
            ) from error
    splits = _write_lists(out, labelled.count)
    write_json(out / PREPARED, marker | {"complete": True, "run": describe_run(cfg.seed, {})})
    counts = ", ".join(f"{count} {split}" for split, count in splits.items())
    data = "nyud" if source.crop else "folder data.size=[480,640]"
    log.info("%s: %s images; check them: python -m mtlsi_net.verify_data data=%s data.root=%s", out, counts, data, out)
    return out


def sample_id(number: int) -> str:
    """Return the id of an image, counted from 0 in the file: four digits, from 1."""
    return f"{number + 1:04d}"


def _claim(out: Path, source: NyuMat, labelled: LabelledFile) -> dict[str, Any]:
    """Write the marker of an unfinished data set to ``out``, or check the one that is there; return it."""
    size = labelled.path.stat().st_size
    marker = {
        "source": "nyu_mat",
        "file": {"name": labelled.path.name, "bytes": size, "images": labelled.count},
        "settings": source.settings(),
        "differs": source.differences(),
        "label_names": labelled.names,  # of the 894 labels, from 1
        "complete": False,
    }
    try:
        earlier = read_prepared(out)
        if earlier is None:
            if out.exists() and any(out.iterdir()):
                raise UserError(f"out={out} is not empty and was not prepared by this command; choose a new folder")
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / PREPARED, marker)
            return marker
    except OSError as error:
        raise UserError(f"out={out} cannot be used as a folder ({error.strerror}); choose another one") from None
    if any(earlier.get(key) != marker[key] for key in ("source", "file")):
        name = (earlier.get("file") or {}).get("name")
        raise UserError(f"out={out} was prepared from another file ({name}); choose a new folder")
    settings = source.settings()
    if changed := [name for name in settings if earlier["settings"].get(name) != settings[name]]:
        raise UserError(
            f"out={out} was prepared with other settings ({', '.join(changed)}); choose them as they were, or a new folder"
        )
    return marker


def _write_images(out: Path, source: NyuMat, labelled: LabelledFile, progress: bool) -> None:
    """Write the files of all images that lack one, and remove incomplete files of an interrupted run."""
    folders = ("images", "depth", "normals", "edge", *source.maps)
    for folder in folders:
        (out / folder).mkdir(exist_ok=True)

    def paths(number: int) -> dict[str, Path]:
        return {name: out / name / f"{sample_id(number)}{SUFFIXES.get(name, '.png')}" for name in folders}

    missing = [number for number in range(labelled.count) if not all(path.is_file() for path in paths(number).values())]
    if len(missing) < labelled.count:
        log.info("%s: %d of %d images are there already", out, labelled.count - len(missing), labelled.count)
    bar = track(labelled.images(missing), "preparing", len(missing), transient=True, disable=not progress)
    for number, sample in bar:
        files = source.label_files(sample)
        for name, path in paths(number).items():
            _write(path, files[name])
    for leftover in (path for folder in folders for path in (out / folder).glob("*.tmp")):  # of a killed process
        leftover.unlink(missing_ok=True)


def _write(path: Path, array: NDArray[Any]) -> None:
    """Write a file, which appears only once complete."""
    content = io.BytesIO()
    if path.suffix == FLOATS:
        np.save(content, array)
    else:
        Image.fromarray(array).save(content, "PNG", compress_level=3)
    with atomic_file(path, durable=False) as file:
        file.write(content.getbuffer())


def _write_lists(out: Path, count: int) -> Mapping[str, int]:
    """Write the official split of the images that the file holds; return split -> images."""
    there = {sample_id(number) for number in range(count)}
    (out / "gt_sets").mkdir(exist_ok=True)
    sizes = {}
    for split in SPLITS:
        ids = [i for i in OFFICIAL["nyud"].ids(split) if i in there]
        write_text(out / "gt_sets" / f"{split}.txt", "".join(f"{i}\n" for i in ids))
        sizes[split] = len(ids)
    return sizes
