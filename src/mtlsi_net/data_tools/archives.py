"""Unpacking of archives whose origin is not trusted: safely, and all or nothing."""

import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import rich.progress
from rich.filesize import decimal

from mtlsi_net.core.errors import UserError, shown

ENCRYPTED = 0x1
"""Bit of a zip entry's flags."""
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""What the libraries raise for a damaged archive, beside an OSError without a number."""


class ArchiveError(Exception):
    """Why a file or an address does not give the data set's archive; the message follows its name."""


def check_room(folder: Path, need: int, what: str) -> None:
    """Raise a UserError unless ``need`` bytes fit the disk that ``folder`` lies on."""
    if (free := shutil.disk_usage(folder).free) < need:
        raise UserError(
            f"{what} takes at least {decimal(need)} but the disk of {folder} has {decimal(free)} free; "
            "free disk space, or choose another disk with data.root=..."
        )


def unpack(archive: Path, lists: Sequence[str], root: Path, *, progress: bool) -> None:
    """Unpack the data set in ``archive`` to ``root``, which must not exist or be empty, and is never seen half full.

    The archive is a tar, compressed or not, or a zip. ``lists`` are files that the data set must have, relative to its
    folder, with slashes.

    Raises:
        ArchiveError: damaged, unsafe, or another data set.
        UserError: ``root`` cannot be written, or the content does not fit its disk.
    """
    label = f"unpacking {archive.name}"
    try:
        with tempfile.TemporaryDirectory(prefix=f"{root.name}.unpacking-", dir=root.parent) as temporary:
            folder = Path(temporary, "content").resolve()
            folder.mkdir()
            with rich.progress.open(archive, "rb", description=label, transient=True, disable=not progress) as file:
                extract = _extract_zip if file.read(2) == b"PK" else _extract_tar
                file.seek(0)
                extract(file, folder)
            content = _find_content(folder, lists)
            if root.is_dir():
                root.rmdir()  # fails if something was put there in the meantime
            os.replace(content, root)
    except tarfile.FilterError as error:
        raise _unsafe(error.tarinfo.name, f"({error})") from None
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; gzip's and bz2's have no number
            raise UserError(
                f"{archive} cannot be unpacked to {root} ({error.strerror}); fix that, or choose another place with "
                "data.root=..."
            ) from None
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists on further lines what it tried
        raise ArchiveError(f"is damaged or no archive ({reason})") from None


def _unsafe(name: str, reason: str) -> ArchiveError:
    return ArchiveError(f"is not safe to unpack: its entry {name!r} {reason}")


def _extract_tar(file: BinaryIO, folder: Path) -> None:
    """Extract a tar: symbolic links last, so that nothing can be written through one.

    ``tarfile``'s filter alone is deceived by chains of links before Python 3.11.13 and 3.12.11 (CVE-2025-4517).
    """
    if not hasattr(tarfile, "data_filter"):
        raise UserError("this Python cannot unpack a tar safely; use 3.11.4 or newer, or unpack it by hand")
    links = []
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            if member.issym():
                links.append(member)
                continue
            if member.islnk() and not (folder / member.linkname).is_file():
                raise _unsafe(member.name, f"is a link to {member.linkname!r}, which is no file before it")
            check_room(folder, member.size, "the rest of the archive")
            tar.extract(member, folder, filter="data")
        while tar.fileobj is not None and tar.fileobj.read(1 << 20):
            pass  # the checksum of a compressed tar stands at its end
        for link in links:
            tar.extract(link, folder, filter="data")
    for link in links:
        try:
            inside = (folder / link.name).resolve(strict=True).is_relative_to(folder)
        except (OSError, RuntimeError):  # leads nowhere, or in a circle
            inside = False
        if not inside:
            raise _unsafe(link.name, f"is a link to {link.linkname!r}, which is not in the archive")


def _extract_zip(file: BinaryIO, folder: Path) -> None:
    """Extract a zip of files and folders; left alone, ``zipfile`` renames paths that lead out and flattens links."""
    with zipfile.ZipFile(file) as zipped:
        for info in zipped.infolist():
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts:
                raise _unsafe(info.filename, "leads out of the folder")
            if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & ENCRYPTED:
                raise _unsafe(info.filename, "is a link or encrypted")
            check_room(folder, info.file_size, "the rest of the archive")
            zipped.extract(info, folder)


def _find_content(folder: Path, lists: Sequence[str]) -> Path:
    """Return what holds ``lists``: ``folder`` or a folder in it."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    for place in (folder, *folders):
        if all((place / name).is_file() for name in lists):
            return place
    raise ArchiveError(
        f"does not hold this data set: {' and '.join(lists)} are neither at its top nor in a folder there "
        f"({shown(path.name for path in folders) or 'it has none'})"
    )
