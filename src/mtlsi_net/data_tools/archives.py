"""Safe unpacking of untrusted archives, all or nothing."""

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
"""Encryption bit of a zip entry's flags."""
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
"""Exceptions of the libraries for a damaged archive, besides an OSError without an errno."""


class ArchiveError(Exception):
    """A file or address that does not provide the data set's archive; the message continues its name."""


def check_room(folder: Path, need: int, what: str) -> None:
    """Raise a UserError unless ``need`` bytes are free on the disk of ``folder``."""
    if (free := shutil.disk_usage(folder).free) < need:
        raise UserError(
            f"{what} needs at least {decimal(need)}, but the disk of {folder} has {decimal(free)} free; "
            "free disk space, or choose another disk with data.root=..."
        )


def unpack(archive: Path, lists: Sequence[str], root: Path, *, progress: bool) -> None:
    """Unpack the data set in ``archive`` to ``root``, which must be missing or empty; it appears only once complete.

    The archive is a tar (compressed or not) or a zip. ``lists`` are files that the data set must contain, as paths relative
    to its folder, with slashes.

    Raises:
        ArchiveError: the archive is damaged or unsafe, or contains another data set.
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
                root.rmdir()  # fails if files were added in the meantime
            os.replace(content, root)
    except tarfile.FilterError as error:
        raise _unsafe(error.tarinfo.name, f"({error})") from None
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # from the system; gzip's and bz2's have no errno
            raise UserError(
                f"{archive} cannot be unpacked to {root} ({error.strerror}); fix this, or choose another folder with "
                "data.root=..."
            ) from None
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists its attempts on further lines
        raise ArchiveError(f"is damaged or not an archive ({reason})") from None


def _unsafe(name: str, reason: str) -> ArchiveError:
    return ArchiveError(f"is unsafe to unpack: its entry {name!r} {reason}")


def _extract_tar(file: BinaryIO, folder: Path) -> None:
    """Extract a tar: symbolic links last, so that nothing can be written through one.

    ``tarfile``'s filter alone does not stop chains of links before Python 3.11.13 and 3.12.11 (CVE-2025-4517).
    """
    if not hasattr(tarfile, "data_filter"):
        raise UserError("this Python cannot unpack a tar safely; use Python 3.11.4 or newer, or unpack it by hand")
    links = []
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            if member.issym():
                links.append(member)
                continue
            if member.islnk() and not (folder / member.linkname).is_file():
                raise _unsafe(
                    member.name, f"is a link to {member.linkname!r}, which is not an earlier file of the archive"
                )
            check_room(folder, member.size, "the rest of the archive")
            tar.extract(member, folder, filter="data")
        while tar.fileobj is not None and tar.fileobj.read(1 << 20):
            pass  # the checksum of a compressed tar is at its end
        for link in links:
            tar.extract(link, folder, filter="data")
    for link in links:
        try:
            inside = (folder / link.name).resolve(strict=True).is_relative_to(folder)
        except (OSError, RuntimeError):  # a dangling link, or a loop
            inside = False
        if not inside:
            raise _unsafe(link.name, f"is a link to {link.linkname!r}, which is not in the archive")


def _extract_zip(file: BinaryIO, folder: Path) -> None:
    """Extract a zip of files and folders; ``zipfile`` alone silently renames unsafe paths and flattens links."""
    with zipfile.ZipFile(file) as zipped:
        for info in zipped.infolist():
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts:
                raise _unsafe(info.filename, "points outside the folder")
            if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & ENCRYPTED:
                raise _unsafe(info.filename, "is a link or encrypted")
            check_room(folder, info.file_size, "the rest of the archive")
            zipped.extract(info, folder)


def _find_content(folder: Path, lists: Sequence[str]) -> Path:
    """Return the folder that contains ``lists``: ``folder`` or one of its subfolders."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    for place in (folder, *folders):
        if all((place / name).is_file() for name in lists):
            return place
    raise ArchiveError(
        f"does not contain this data set: {' and '.join(lists)} are not at its top or in one of its folders "
        f"({shown(path.name for path in folders) or 'it has no folders'})"
    )
