"""Archives from strangers: looked through before anything is written, and unpacked all or not at all."""

import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.progress import Progress

from mtlsi_net.fetching.members import ArchiveError, Member, check_members
from mtlsi_net.fetching.space import check_room
from mtlsi_net.utils.errors import UserError

CHUNK = 1 << 20
SHOWN = 5
ENCRYPTED = 0x1
"""Bit of a zip entry's flags."""
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""What the libraries raise for bytes that are no archive, or a damaged one, beside OSError."""


@dataclass(frozen=True)
class Contents:
    """Where in an archive the data set lies ("." or the name of a folder), and the bytes of all files."""

    top: str
    size: int


def look_through(archive: Path, lists: Sequence[str], folder: Path) -> Contents:
    """Read ``archive`` to its end without writing anything.

    Args:
        archive: a tar, compressed or not, or a zip.
        lists: files that the data set must have, relative to its folder, with slashes.
        folder: what is unpacked must fit its disk.

    Raises:
        ArchiveError: damaged, unsafe, or another data set.
        UserError: too large for the disk.
    """
    members, size = [], 0
    with _reading(OSError, *DAMAGED):
        for member in _members(archive):
            members.append(member)
            size += member.size
            check_room(folder, size, f"{archive} unpacked")  # here, so that a bomb is not read to its end
    check_members(members)
    return Contents(_find_top({member.path for member in members}, lists), size)


def _find_top(paths: AbstractSet[PurePosixPath], lists: Sequence[str]) -> str:
    """Return the folder that holds ``lists``: the archive's top (".") or one there.

    Raises:
        ArchiveError: none does.
    """
    folders = sorted({path.parts[0] for path in paths if path.parts})
    for top in (".", *folders):
        if all(PurePosixPath(top, name) in paths for name in lists):
            return top
    found = ", ".join(folders[:SHOWN]) + (", ..." if len(folders) > SHOWN else "")
    raise ArchiveError(
        f"does not hold this data set: {' and '.join(lists)} are neither at its top nor in a folder there, "
        f"where it has {found or 'nothing'}"
    )


def unpack(archive: Path, contents: Contents, root: Path, *, progress: bool) -> None:
    """Unpack the data set in ``archive`` to ``root``, which must not exist or be empty, and is never seen half full.

    Raises:
        ArchiveError: damaged.
        UserError: ``root`` cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f"{root.name}.unpacking-", dir=root.parent) as temporary:
            folder = Path(temporary, "content")
            folder.mkdir()
            with Progress(transient=True, disable=not progress) as bar:
                task = bar.add_task(f"unpacking {archive.name}", total=contents.size)
                with _reading(*DAMAGED):  # an OSError is the disk's: the archive has been read once
                    for size in _extract(archive, folder):
                        bar.advance(task, size)
            if root.is_dir():
                root.rmdir()  # fails if something was put there in the meantime
            os.replace(folder / contents.top, root)
    except OSError as error:
        raise UserError(
            f"{archive} cannot be unpacked to {root} ({error.strerror or error}); mend that, or choose another place with "
            "data.root=..."
        ) from None


@contextmanager
def _reading(*errors: type[Exception]) -> Iterator[None]:
    """Turn what the libraries raise while reading into an ArchiveError."""
    try:
        yield
    except errors as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists on further lines what it tried
        raise ArchiveError(f"is damaged or no archive ({reason})") from None


def _is_zip(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(2) == b"PK"


def _members(archive: Path) -> Iterator[Member]:
    """Yield what an archive holds, in its order; the end of a compressed tar is read too, where its checksum stands."""
    if _is_zip(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield from map(_zip_member, zipped.infolist())
        return
    with tarfile.open(archive) as tar:
        yield from map(_tar_member, tar)
        while tar.fileobj is not None and tar.fileobj.read(CHUNK):
            pass


def _tar_member(info: tarfile.TarInfo) -> Member:
    kinds = {"file": info.isreg(), "folder": info.isdir(), "symlink": info.issym(), "hardlink": info.islnk()}
    kind = next((kind for kind, holds in kinds.items() if holds), "device or pipe")
    return Member(info.name, kind, info.size, info.linkname)


def _zip_member(info: zipfile.ZipInfo) -> Member:
    kind = "folder" if info.is_dir() else "file"
    if stat.S_ISLNK(info.external_attr >> 16):
        kind = "link in a zip"
    if info.flag_bits & ENCRYPTED:
        kind = "encrypted file"
    return Member(info.filename, kind, info.file_size)


def _extract(archive: Path, folder: Path) -> Iterator[int]:
    """Write all members to ``folder``; yield the bytes of each."""
    if _is_zip(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                zipped.extract(info, folder)
                yield info.file_size
        return
    if not hasattr(tarfile, "data_filter"):
        raise UserError("this Python cannot unpack a tar safely; use 3.11.4 or newer, or unpack it by hand")
    with tarfile.open(archive) as tar:
        for member in tar:
            tar.extract(member, folder, filter="data")  # a second fence; the first is check_members
            yield member.size
