"""One file from one address: resumed where it broke off, and never taken for whole when it is not."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from mtlsi_net.fetching.part import Part
from mtlsi_net.fetching.space import check_room
from mtlsi_net.utils.errors import UserError

log = logging.getLogger(__name__)

CHUNK = 1 << 18
MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP codes of which a later attempt may be free."""
WEB_PAGE = "gives a web page instead of the archive; open it in a browser"


class TransferError(Exception):
    """Why an address did not give the file; ``again``: a further attempt may succeed."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(" ".join(reason.split()))  # some of the library's reasons have several lines
        self.again = again


@dataclass(frozen=True)
class Connection:
    """How patient a transfer is.

    Attributes:
        timeout: seconds without a byte after which a connection counts as lost.
        retries: further attempts after a failure that may pass.
        backoff: seconds before the first of them, doubled each time.
        progress: show a progress bar.
    """

    timeout: float = 30.0
    retries: int = 3
    backoff: float = 1.0
    progress: bool = True


class _Redirects(HTTPRedirectHandler):
    """Follows to http and https only, and never from https back to http."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:  # noqa: ANN401
        if urlsplit(newurl).scheme not in {"https", req.type}:
            raise TransferError(f"redirects to {newurl}, which is not safe to follow")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def transfer(url: str, target: Path, size: int | None, connection: Connection) -> None:
    """Fetch ``url`` to ``target``; what has come of it is kept beside ``target`` and resumed by the next call.

    Args:
        url: http, https or file.
        target: the file to make; its folder exists.
        size: bytes it must have; None if not known.
        connection: timeouts and retries.

    Raises:
        TransferError: the address does not give the file; says why, and whether running again resumes.
        UserError: the file cannot be written, or does not fit the disk.
    """
    part = Part.of(target, url)
    try:
        _try_repeatedly(url, part, size, connection)
        _refuse_web_page(part)
        os.replace(part.path, target)
        part.discard()
    except TransferError as error:
        kept = part.resumable
        if not kept:
            part.discard()
        outlook = f"; {decimal(kept)} are kept, run again to resume" if error.again and kept else ""
        raise TransferError(f"{error}{outlook}") from None
    except OSError as error:
        raise UserError(
            f"{part.path}: cannot be written ({error.strerror}); mend that, or choose another place with data.root=..."
        ) from None


def _try_repeatedly(url: str, part: Part, size: int | None, connection: Connection) -> None:
    for attempt in count():
        try:
            _attempt(url, part, size, connection)
            return
        except TransferError as error:
            if not error.again or attempt >= connection.retries:
                raise
            pause = connection.backoff * 2**attempt
            log.info("%s: %s; trying again in %g seconds", url, error, pause)
            time.sleep(pause)


def _attempt(url: str, part: Part, size: int | None, connection: Connection) -> None:
    """Fetch the rest of ``part``, or all of it where the server cannot give the rest or has another version."""
    response = _open(url, part, connection.timeout)
    if response is None:
        return
    with response:
        start, total = _extent(response.status, response.headers)
        tag = _tag(response.headers)
        if response.headers.get_content_type() == "text/html":
            raise TransferError(WEB_PAGE)
        if None not in (size, total) and size != total:
            raise TransferError(f"has {total} bytes instead of {size}")
        if start and (start != part.resumable or tag not in {"", part.tag}):
            raise _changed(part)
        check_room(part.path.parent, (total or start) - start, f"the rest of {url}" if start else url)
        if not start:
            part.begin(tag)
        _append(response, part, start, total, connection.progress)


def _open(url: str, part: Part, timeout: float) -> Any:  # noqa: ANN401 - urllib does not tell
    """Return the answer to the request for what ``part`` lacks; None if it lacks nothing."""
    have, tag = part.resumable, part.tag
    headers = {"User-Agent": "mtlsi-net", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    try:
        return build_opener(_Redirects).open(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return None
            raise _changed(part) from None
        raise TransferError(f"HTTP {error.code} {error.reason}", again=error.code in MAY_PASS) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise TransferError(f"cannot be reached ({reason})", again=not url.startswith("file:")) from None


def _extent(status: int | None, headers: Message) -> tuple[int, int | None]:
    """Return the place of the answer's first byte in the file (-1: not told), and the file's size if it is told."""
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    if status != 206:
        return 0, size
    place, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = place.partition("-")[0]
    return int(first) if first.isdigit() else -1, int(total) if total.isdigit() else None


def _tag(headers: Message) -> str:
    """Return what names this version of the file; a weak ETag may not be used for ranges."""
    etag: str = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _changed(part: Part) -> TransferError:
    """Return the error of a server that cannot go on where ``part`` ends; the part is gone, so the next try is anew."""
    part.discard()
    return TransferError("does not go on where it broke off: the file there is another by now", again=True)


def _append(response: Any, part: Part, start: int, total: int | None, progress: bool) -> None:  # noqa: ANN401
    """Write the answer's bytes to the end of ``part`` and check that all came."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    have = start
    with part.path.open("ab") as file, Progress(*columns, transient=True, disable=not progress) as bar:
        task = bar.add_task("", total=total, completed=start)
        for block in _blocks(response):
            file.write(block)
            have += len(block)
            bar.update(task, completed=have)
    if total is not None and have != total:
        raise TransferError(f"broke off after {have} of {total} bytes", again=True)


def _blocks(response: Any) -> Iterator[bytes]:  # noqa: ANN401
    """Yield the answer's bytes; a lost connection is a TransferError, unlike an OSError of the disk."""
    while True:
        try:
            block = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise TransferError(f"broke off ({error})", again=True) from None
        if not block:
            return
        yield block


def _refuse_web_page(part: Part) -> None:
    """Refuse a page that was sent under another type; what is kept of it is of no use."""
    with part.path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        part.discard()
        raise TransferError(WEB_PAGE)
