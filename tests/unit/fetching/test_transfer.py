import shutil
import socket
from urllib.request import Request

import pytest
from helpers.file_server import file_server

from mtlsi_net.fetching.part import Part
from mtlsi_net.fetching.transfer import Connection, TransferError, _Redirects, transfer
from mtlsi_net.utils.errors import UserError

BODY = bytes(range(256)) * 4000
HALF = 500_000
OTHER = BODY[::-1]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with file_server() as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data.tar.gz"


def fetch(url, target, retries=0, size=None, timeout=5.0):
    transfer(url, target, size, Connection(timeout=timeout, retries=retries, backoff=0.0, progress=False))


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_whole_file_comes_at_once(server, target):
    fetch(server.serve("a", BODY), target, size=len(BODY))
    assert target.read_bytes() == BODY
    assert server.requests == [("a", None)]
    assert leftovers(target) == [target.name]


def test_a_broken_transfer_says_so_and_is_resumed_by_the_next_run(server, target):
    url = server.serve("a", BODY, cuts=[HALF])
    with pytest.raises(TransferError, match=rf"broke off after {HALF} of {len(BODY)} bytes; 500.0 kB are kept, run ag"):
        fetch(url, target)
    assert not target.exists()
    fetch(url, target)
    assert target.read_bytes() == BODY
    assert server.requests == [("a", None), ("a", f"bytes={HALF}-")]


def test_retries_resume_within_one_run(server, target):
    fetch(server.serve("a", BODY, cuts=[HALF, 100]), target, retries=2)
    assert target.read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]


def test_what_passes_is_tried_again(server, target, caplog):
    caplog.set_level("INFO")
    url = server.serve("a", BODY, failures=[503, 429])
    fetch(url, target, retries=2)
    assert target.read_bytes() == BODY
    assert f"{url}: HTTP 503 Service Unavailable; trying again" in caplog.text


@pytest.mark.parametrize("how", [{"ranges": "ignored"}, {"tag": ""}])
def test_where_nothing_can_be_resumed_it_starts_again(server, target, how):
    url = server.serve("a", BODY, cuts=[HALF], **how)
    fetch(url, target, retries=1)
    assert target.read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_part_that_cannot_be_resumed_is_not_kept(server, target):
    url = server.serve("a", BODY, cuts=[HALF], tag="")
    with pytest.raises(TransferError, match=r"broke off after \d+ of \d+ bytes$"):
        fetch(url, target)
    assert leftovers(target) == []


def test_weak_tags_do_not_serve_but_dates_do(server, target):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    url = server.serve("a", BODY, cuts=[HALF], tag='W/"one"', headers={"Last-Modified": date})
    with pytest.raises(TransferError):
        fetch(url, target)
    assert Part.of(target, url).tag == date


@pytest.mark.parametrize("ranges", ["honoured", "careless"])
def test_a_file_that_changed_meanwhile_comes_anew(server, target, ranges):
    url = server.serve("a", BODY, cuts=[HALF])
    with pytest.raises(TransferError):
        fetch(url, target)
    server.serve("a", OTHER, tag='"two"', ranges=ranges)
    fetch(url, target, retries=1)
    assert target.read_bytes() == OTHER


def test_code_416_means_whole_or_changed(server, target):
    url = server.serve("a", BODY, ranges="careless")
    part = Part.of(target, url)
    part.begin('"one"')
    part.path.write_bytes(BODY)
    fetch(url, target)
    assert target.read_bytes() == BODY
    part.begin('"one"')
    part.path.write_bytes(BODY + b"more")
    with pytest.raises(TransferError, match=r"does not go on where it broke off: .* another by now$"):
        fetch(url, target)
    assert leftovers(target) == [target.name]


@pytest.mark.parametrize("place", ["bytes 7-9/10", "nonsense"])
def test_an_answer_from_elsewhere_in_the_file_is_not_taken(server, target, place):
    url = server.serve("a", BODY, cuts=[HALF])
    with pytest.raises(TransferError):
        fetch(url, target)
    server.serve("a", BODY, failures=[206], headers={"Content-Range": place})
    fetch(url, target, retries=1)
    assert target.read_bytes() == BODY
    assert [wanted for _, wanted in server.requests] == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_a_web_page_is_no_archive(server, target, headers):
    url = server.serve("a", b"\n<!DOCTYPE html><html>Sign in", headers=headers)
    with pytest.raises(TransferError, match="a web page instead of the archive; open it in a browser"):
        fetch(url, target)
    assert leftovers(target) == []


def test_a_web_page_does_not_cost_the_part(server, target):
    url = server.serve("a", BODY, cuts=[HALF])
    with pytest.raises(TransferError):
        fetch(url, target)
    server.serve("a", b"<html>Too many downloads", headers={"Content-Type": "text/html"}, ranges="ignored")
    with pytest.raises(TransferError, match="web page"):
        fetch(url, target)
    assert Part.of(target, url).resumable == HALF


def test_another_size_than_expected_is_refused_before_it_is_fetched(server, target):
    with pytest.raises(TransferError, match=f"has {len(BODY)} bytes instead of 17"):
        fetch(server.serve("a", BODY), target, size=17)
    assert leftovers(target) == []


def test_a_size_need_not_be_told(server, target):
    fetch(server.serve("a", BODY, length=False), target)
    assert target.read_bytes() == BODY


def test_a_chunked_answer_that_ends_early_is_no_file(server, target):
    url = server.serve("a", b"ff\r\nhalf", headers={"Transfer-Encoding": "chunked"}, length=False)
    with pytest.raises(TransferError, match="broke off"):
        fetch(url, target)


def test_absent_files_and_servers(server, target):
    with pytest.raises(TransferError, match="HTTP 404 Not Found"):
        fetch(server.url("nothing"), target, retries=3)
    assert len(server.requests) == 1  # there is no use in asking again
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(TransferError, match=r"cannot be reached .*refused"):
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/a", target)
    with pytest.raises(TransferError, match=r"cannot be reached .*No such file"):
        fetch((target.parent / "nothing").as_uri(), target, retries=3)


def test_a_silent_server_is_given_up(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TransferError, match="timed out"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/a", target, timeout=0.1)


def test_files_of_this_machine(target, tmp_path):
    (tmp_path / "mine").write_bytes(BODY)
    fetch((tmp_path / "mine").as_uri(), target)
    assert target.read_bytes() == BODY


def test_redirects_are_followed_unless_they_leave_the_web(server, target):
    server.serve("a", BODY)
    fetch(server.serve("b", b"", failures=[302], headers={"Location": server.url("a")}), target)
    assert target.read_bytes() == BODY
    for place, words in (("ftp://127.0.0.1/a", "which is not safe"), (target.as_uri(), "is not allowed")):
        url = server.serve("c", b"", failures=[302], headers={"Location": place})
        with pytest.raises(TransferError, match=f"{place}.*{words}"):
            fetch(url, target)
    with pytest.raises(TransferError, match="redirects to http://b, which is not safe"):
        _Redirects().redirect_request(Request("https://a"), None, 302, "Found", {}, "http://b")
    server.serve("loop", b"", failures=[302] * 20, headers={"Location": server.url("loop")})
    with pytest.raises(TransferError, match="infinite loop") as loop:
        fetch(server.url("loop"), target)
    assert "\n" not in str(loop.value)


def test_a_full_disk_ends_it_before_it_begins(server, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(UserError, match=rf"/a takes at least 1.0 MB but the disk of {target.parent} has 100 bytes fr"):
        fetch(server.serve("a", BODY), target)
    assert leftovers(target) == []


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    with pytest.raises(UserError, match=r"nowhere/data.*part.*cannot be written \(No such file.*data.root"):
        fetch(server.serve("a", BODY), tmp_path / "nowhere" / "data")
