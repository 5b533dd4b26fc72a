"""Digests of a data set's files, kept outside it: only new and changed files are read again."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.progress import track

from mtlsi_net.data.sample_reader import SampleReader
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.verification.manifest import manifest_text, relative_name, sha256_of, text_sha256

log = logging.getLogger(__name__)

LISTS = "lists"
SPLITS = ("train", "val")

Kept = dict[str, list[Any]]
"""Path relative to the data set's folder -> [size, time of change in ns, sha256]."""


def describe_data(reader: SampleReader, cache: Path) -> dict[str, Any]:
    """Return one sha256 for all files that ``reader`` reads, and one for each kind of them.

    ``manifest_sha256`` is what ``verify_data`` reports for the same tasks; ``parts`` has it for the split lists, the
    images and each task alone, so that runs of different tasks can be compared in those they share.

    Args:
        reader: of the tasks that are read.
        cache: folder that digests are kept in; where it cannot be written, all files are read anew each time.

    Raises:
        UserError: a split list that cannot be read.
    """
    parts = data_files(reader)
    digests = find_digests(reader.root, {name: path for files in parts.values() for name, path in files.items()}, cache)
    own = {part: {name: digests[name] for name in files if name in digests} for part, files in parts.items()}
    return {
        "manifest_sha256": text_sha256(manifest_text(digests)),
        "files": len(digests),
        "parts": {part: text_sha256(manifest_text(lines)) for part, lines in own.items()},
    }


def data_files(reader: SampleReader) -> dict[str, dict[str, Path]]:
    """Return ``lists``, ``image`` and each task -> path relative to the data set's folder -> path."""
    ids = dict.fromkeys(sample_id for split in SPLITS for sample_id in reader.ids(split))
    parts = {LISTS: [reader.list_path(split) for split in SPLITS]}
    for name in (IMAGE, *reader.specs):
        parts[name] = [path for sample_id in ids for path in reader.files(name, sample_id)]
    return {part: {relative_name(path, reader.root): path for path in files} for part, files in parts.items()}


def find_digests(root: Path, files: Mapping[str, Path], cache: Path) -> dict[str, str]:
    """Return the sha256 of every file that can be read, on all cores where it is not known yet.

    Args:
        root: the data set's folder.
        files: name -> path.
        cache: folder that digests are kept in.
    """
    place = _place(root, cache)
    kept, states = _read(place), _states(files)
    unknown = [name for name, state in states.items() if _known(kept, name)[:-1] != state]
    if unknown:
        log.info("sha256 of %d files of %s, once; kept in %s", len(unknown), root, place)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing and reading leave the interpreter to the others
            found = pool.map(lambda name: _digest(files[name]), unknown)
            for name, digest in zip(unknown, track(found, "sha256", len(unknown), transient=True), strict=True):
                kept[name] = [*states[name], digest]
        _write(place, kept)
    return {name: kept[name][-1] for name in states if kept[name][-1] is not None}


def keep_digests(root: Path, digests: Mapping[str, str], cache: Path, started: float) -> None:
    """Keep digests that were found elsewhere.

    Args:
        root: the data set's folder.
        digests: path relative to it -> sha256.
        cache: folder to keep them in.
        started: when the first file was read (``time.time()``); what changed since is not kept.
    """
    place = _place(root, cache)
    states = _states({name: root / name for name in digests})
    fresh = {name: [*state, digests[name]] for name, state in states.items() if state[1] < started * 1e9}
    _write(place, _read(place) | fresh)


def _place(root: Path, cache: Path) -> Path:
    return cache / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"


def _states(files: Mapping[str, Path]) -> dict[str, list[int]]:
    """Return the size and times of change of every file that is there; a copy may bring the first time, not the second."""
    states = {}
    for name, path in files.items():
        with suppress(OSError):
            state = path.stat()
            states[name] = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return states


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _known(kept: Kept, name: str) -> list[Any]:
    entry = kept.get(name)
    return entry if isinstance(entry, list) and entry and isinstance(entry[-1], str) else [None]


def _read(place: Path) -> Kept:
    try:
        kept = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _write(place: Path, kept: Kept) -> None:
    """Write under a name of this process's own, then rename: no reader ever meets half a file."""
    temporary = place.with_suffix(f".{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept))
        os.replace(temporary, place)
    except OSError as error:
        log.warning("%s: digests cannot be kept (%s); every run reads all files", place.parent, error.strerror)
