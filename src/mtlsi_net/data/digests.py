"""SHA-256 digests of a data set's files: manifests in ``sha256sum`` format, and a cache so that unchanged files are read once."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.progress import track

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.io import atomic_file
from mtlsi_net.core.machine import available_cores
from mtlsi_net.data.reader import SampleReader
from mtlsi_net.data.transforms import IMAGE

log = logging.getLogger(__name__)

LISTS = "lists"
SPLITS = ("train", "val")


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """Return the sha256 of a text in hexadecimal: for a manifest, a single digest of the whole data set."""
    return hashlib.sha256(text.encode()).hexdigest()


def manifest_text(digests: Mapping[str, str]) -> str:
    """Return the manifest, sorted by path; ``sha256sum -c`` run in the data set's folder reads it."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))


def read_manifest(path: Path) -> dict[str, str]:
    """Return the digests of a manifest by path; a UserError if it is missing, or a line has another format."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"manifest {path} cannot be read ({error}); give a manifest written by verify_data") from None
    digests = {}
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise UserError(
                f"manifest {path}, line {number}: not a sha256 and a path; give a manifest written by verify_data"
            )
        digests[name] = digest
    return digests


def describe_data(reader: SampleReader, cache: Path, splits: Sequence[str] = SPLITS) -> dict[str, Any]:
    """Return one sha256 for all files that ``reader`` reads, and one for each kind of them.

    ``manifest_sha256`` is what ``verify_data`` reports for the same tasks; ``parts`` has it for the split lists, the
    images and each task separately, so that runs of different tasks can be compared in those they share. Digests are cached
    in the folder ``cache`` if it is writable. A UserError if a split list cannot be read.
    """
    parts = data_files(reader, splits)
    digests = find_digests(reader.root, {name: path for files in parts.values() for name, path in files.items()}, cache)
    part_digests = {part: {name: digests[name] for name in files if name in digests} for part, files in parts.items()}
    sums = {part: text_sha256(manifest_text(lines)) for part, lines in part_digests.items()}
    return {"manifest_sha256": text_sha256(manifest_text(digests)), "files": len(digests), "parts": sums}


def listed_ids(reader: SampleReader, splits: Sequence[str] = SPLITS) -> list[str]:
    """Return the ids of all splits, each once."""
    return list(dict.fromkeys(sample_id for split in splits for sample_id in reader.ids(split)))


def data_files(reader: SampleReader, splits: Sequence[str] = SPLITS) -> dict[str, dict[str, Path]]:
    """Return ``lists``, ``image`` and each task -> path relative to the data set's folder, with slashes -> path."""
    parts = {
        LISTS: [path for path in map(reader.list_path, splits) if not path.is_dir()]
    }  # or its files' names are the list
    ids = listed_ids(reader, splits)
    for name in (IMAGE, *reader.specs):
        parts[name] = [path for sample_id in ids for path in reader.files(name, sample_id)]
    return {
        part: {Path(os.path.relpath(path, reader.root)).as_posix(): path for path in files}
        for part, files in parts.items()
    }


def find_digests(
    root: Path, files: Mapping[str, Path], cache: Path, *, reread: bool = False, progress: bool = True
) -> dict[str, str]:
    """Return the sha256 of every file (name -> path) that can be read, on all cores where it is not known yet.

    They are cached by ``root`` in the folder ``cache``; ``reread`` ignores the cache and reads every file.
    """
    place = cache / f"{text_sha256(str(root.resolve()))[:16]}.json"
    kept, states = _read(place), _states(files)
    unknown = [name for name, state in states.items() if reread or state not in kept]
    if unknown:
        log.info("computing sha256 of %d files of %s; they are cached in %s", len(unknown), root, place)
        with ThreadPoolExecutor(available_cores()) as pool:  # hashing and reading release the GIL
            results = pool.map(lambda name: _digest(files[name]), unknown)
            bar = track(results, "sha256", len(unknown), transient=True, disable=not progress)
            kept |= {states[name]: digest for name, digest in zip(unknown, bar, strict=True)}
        _write(place, kept)
    return {name: digest for name, state in states.items() if (digest := kept[state]) is not None}


def _states(files: Mapping[str, Path]) -> dict[str, str]:
    """Return name, size, mtime and ctime of every existing file; copying may preserve the mtime, but not the ctime."""
    states = {}
    for name, path in files.items():
        with suppress(OSError):
            state = path.stat()
            states[name] = f"{name}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"
    return states


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _read(place: Path) -> dict[str, str | None]:
    """Return the cached digests by state; empty if the cache file is missing or damaged."""
    try:
        return {state: digest for state, digest in json.loads(place.read_text()).items() if isinstance(digest, str)}
    except (OSError, ValueError, AttributeError):
        return {}


def _write(place: Path, kept: Mapping[str, str | None]) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(place, durable=False) as file:
            file.write(json.dumps(kept).encode())
    except OSError as error:
        log.warning("%s: cannot cache digests (%s); every run will read all files", place.parent, error.strerror)
