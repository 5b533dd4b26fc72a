"""Download of one data set: archive (by pooch), unpacked folder, verification."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests
from hydra.utils import instantiate
from omegaconf import DictConfig

from mtlsi_net.core.config import check_complete, check_options
from mtlsi_net.core.errors import UserError
from mtlsi_net.data.datamodule import MultiTaskDataModule
from mtlsi_net.data.digests import SPLITS, sha256_of
from mtlsi_net.data_tools.archives import ArchiveError, check_room, unpack
from mtlsi_net.data_tools.verify import verify

log = logging.getLogger(__name__)

CHUNK = 1 << 18
MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP codes after which another attempt may succeed."""
Transfer = Callable[[str, Path], None]


@dataclass(frozen=True)
class Mirror:
    """One address of the archive; ``browser``: it needs one (a sign-in, a button), so it is only shown."""

    url: str
    browser: bool = False
    note: str | None = None


@dataclass
class Source:
    """The archive of one data set: ``file``, beside the data set's folder, or ``archive``, the user's copy.

    ``mirrors`` are addresses in the order they are tried: a URL or the attributes of ``Mirror``, else a UserError.
    """

    file: str
    mirrors: Sequence[str | Mapping[str, Any]] = ()
    archive: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        self.addresses = [_mirror(entry) for entry in self.mirrors]

    def check(self, path: Path) -> None:
        """Raise an ArchiveError if ``path`` is a web page, unreadable, or has another sha256 than the known one."""
        try:
            with path.open("rb") as file:
                start = file.read(512).lstrip().lower()
            if start.startswith((b"<!doctype html", b"<html")):
                raise ArchiveError("is a web page instead of the archive; open the address in a browser")
            if self.sha256 is not None and (digest := sha256_of(path)) != self.sha256.lower():
                raise ArchiveError(f"has sha256 {digest} instead of {self.sha256}")
        except OSError as error:
            raise ArchiveError(f"cannot be read ({error.strerror})") from None


def _mirror(entry: str | Mapping[str, Any]) -> Mirror:
    try:
        mirror = Mirror(entry) if isinstance(entry, str) else Mirror(**entry)
    except TypeError:
        mirror = Mirror("")
    if not mirror.url.startswith(("http://", "https://")):
        raise UserError(
            f"source.mirrors: {entry!r} is not valid; give a URL that starts with http:// or https://, or "
            "{url: URL, browser: true, note: TEXT}; for a local file use source.archive=FILE"
        )
    return mirror


def fetch(url: str, target: Path, *, timeout: float, retries: int, backoff: float, progress: bool) -> None:
    """Fetch ``url`` to ``target``, which appears only once complete.

    A connection fails after ``timeout`` seconds without a byte. Temporary failures are retried up to ``retries`` times, from
    the start, after ``backoff`` seconds, doubled each time.

    Raises:
        ArchiveError: the address does not provide the file.
        UserError: the file cannot be written, or does not fit the disk.
    """

    def check_answer(response: requests.Response, *_: Any, **__: Any) -> None:  # noqa: ANN401 - requests' hook
        """Refuse unsafe redirects and files larger than the disk before the transfer; called for each redirect too."""
        onward = response.headers.get("Location", "")
        if response.url.startswith("https:") and onward.startswith("http:"):
            raise ArchiveError(f"redirects to {onward}, which is not safe to follow")
        check_room(target.parent, int(response.headers.get("Content-Length", 0)), url)

    downloader = pooch.HTTPDownloader(
        progressbar=progress,
        chunk_size=CHUNK,
        timeout=timeout,
        headers={"User-Agent": "mtlsi-net", "Accept-Encoding": "identity"},
        hooks={"response": check_answer},
    )
    try:
        with tempfile.TemporaryDirectory(prefix=f"{target.name}.downloading-", dir=target.parent) as folder:
            part = Path(folder, target.name)
            for attempt in range(retries + 1):
                try:
                    downloader(url, str(part), None)
                    break
                except (requests.RequestException, ValueError) as error:  # ValueError: malformed headers
                    reason, may_pass = _explain(error)
                if not may_pass or attempt == retries:
                    raise ArchiveError(reason)
                pause = backoff * 2**attempt
                log.info("%s: %s; trying again in %g seconds", url, reason, pause)
                time.sleep(pause)
            os.replace(part, target)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); fix this, or choose another folder with data.root=..."
        ) from None


def _explain(error: Exception) -> tuple[str, bool]:
    """Return why a transfer failed, and whether another attempt may succeed."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}", error.response.status_code in MAY_PASS
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return " ".join(f"transfer failed ({cause})".split()), isinstance(error, passing)


def install(
    source: Source, root: Path, lists: Sequence[str], transfer: Transfer, *, keep_archive: bool, progress: bool
) -> None:
    """Unpack the archive to ``root`` (see ``unpack``); download it first unless it is given or already beside ``root``.

    ``transfer`` fetches a URL to a file, which is removed again unless ``keep_archive``. A UserError if the
    existing archive is unusable, or no mirror provides a usable one.
    """
    archive = Path(source.archive or root.parent / source.file)

    def check_and_unpack() -> None:
        log.info("checking and unpacking %s", archive)
        source.check(archive)
        unpack(archive, lists, root, progress=progress)

    if archive.is_file():
        try:
            check_and_unpack()
        except ArchiveError as error:
            raise UserError(
                f"{archive} {error}; remove it and run the command again, or pass source.archive=FILE"
            ) from None
        return
    if source.archive is not None:
        raise UserError(
            f"source.archive={source.archive} is not a file; correct the path, or omit it to download the archive"
        )
    failures = []
    for mirror in source.addresses:
        try:
            if mirror.browser:
                raise ArchiveError(f"needs a browser{f' ({mirror.note})' if mirror.note else ''}")
            log.info("downloading %s", mirror.url)
            transfer(mirror.url, archive)
            check_and_unpack()
        except ArchiveError as error:
            kept = f"; kept as {archive.replace(f'{archive}.bad')}" if archive.is_file() else ""
            failures.append(f"{mirror.url}: {error}{kept}")
            log.info("%s", failures[-1])
        else:
            if not keep_archive:
                archive.unlink()
            return
    raise UserError(
        f"{source.file} could not be downloaded [{' | '.join(failures) or 'source.mirrors is empty'}]; "
        f"download it by hand to {archive}, or pass source.archive=FILE, and run the command again; "
        "for other addresses pass source.mirrors=\"['URL',...]\""
    )


def download(cfg: DictConfig) -> int:
    """Install the data set in ``cfg.data.root`` unless that folder has files, then verify the folder.

    Returns the exit code: the verdict's level, or 0 with ``cfg.verify`` off. A UserError if the data set cannot be downloaded.
    """
    check_complete(cfg)
    if cfg.get("source") is None:
        raise UserError("this data set has no list of mirrors; use data=nyud or data=pascal, or pass source=...")
    check_options(cfg.source, "source")
    source = instantiate(cfg.source, _convert_="all")
    if not isinstance(source, Source):
        raise UserError(
            "this source is a file that you have: python -m mtlsi_net.prepare; download takes source=nyud|pascal"
        )
    module: MultiTaskDataModule = instantiate(cfg.data, _convert_="all")(targets={})
    reader = module.make_reader({})
    lists = [reader.list_path(split).relative_to(reader.root).as_posix() for split in SPLITS]
    root, transfer = reader.root.resolve(), instantiate(cfg.connection)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        taken = root.exists() and any(root.iterdir())
    except OSError as error:
        raise UserError(f"data.root={root} cannot be used as a folder ({error.strerror}); choose another one") from None
    if taken:
        log.info(
            "%s is not empty, so nothing is downloaded; for a new copy choose another folder with data.root=...", root
        )
    else:
        install(source, root, lists, transfer, keep_archive=cfg.keep_archive, progress=cfg.progress)
    return int(verify(cfg).level) if cfg.verify else 0
