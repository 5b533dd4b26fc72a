import hashlib
import io
import os
import shutil
import socket
import tarfile
import zipfile

import pytest
import requests
from helpers.file_server import file_server
from helpers.miniature import compose_config, write_miniature
from helpers.pascal_miniature import write_pascal_miniature
from hydra.errors import InstantiationException

from mtlsi_net.core.errors import UserError, find_user_error
from mtlsi_net.data_tools.archives import ArchiveError
from mtlsi_net.data_tools.download import download, fetch
from mtlsi_net.data_tools.findings import Level

WRITERS = {"nyud": write_miniature, "pascal": write_pascal_miniature}
NAMES = {"nyud": "NYUDv2", "pascal": "PASCALContext"}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with file_server() as running:
        yield running


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Return the bytes of each miniature's archive, as published: one folder in a compressed tar."""
    made = {}
    for data, write in WRITERS.items():
        folder = tmp_path_factory.mktemp(data)
        write(folder / NAMES[data])
        with tarfile.open(folder / "archive", "w:gz") as tar:
            tar.add(folder / NAMES[data], NAMES[data])
        made[data] = (folder / "archive").read_bytes()
    return made


@pytest.fixture
def place(tmp_path):
    return tmp_path / "disk" / "NYUDv2"


def run(place, *overrides, data="nyud", urls=()):
    """Download to ``place`` from ``urls``, without verification unless it is switched on."""
    mirrors = [f"source.mirrors=[{','.join(repr(url) for url in urls)}]"] if urls else []
    out = place.parent.parent / "out"
    options = (f"data.root={place}", "workers=1", "progress=false", "samples=1", f"paths.run_dir={out}", "verify=false")
    quick = ("connection.retries=0", "connection.backoff=0")
    return download(compose_config(f"data={data}", *options, *quick, *mirrors, *overrides, name="download"))


def refused(place, *overrides, **options):
    """Run what must fail; return the message, which is one line, after seeing that nothing came to the place."""
    with pytest.raises((UserError, InstantiationException)) as raised:
        run(place, *overrides, **options)
    assert not place.exists()
    message = str(find_user_error(raised.value))
    assert "\n" not in message
    return message


def beside(place):
    return sorted(os.listdir(place.parent))


@pytest.mark.parametrize("data", WRITERS)
def test_from_mirror_to_verified_data_set(server, archives, tmp_path, data):
    place = tmp_path / "disk" / NAMES[data]
    code = run(place, "verify=true", data=data, urls=[server.serve("a.tar.gz", archives[data])])
    assert code == Level.DIFFERS  # whole, but a miniature
    assert (tmp_path / "out" / "verify.json").is_file()
    assert beside(place) == [NAMES[data]]  # the archive goes
    expected = WRITERS[data](tmp_path / "expected")
    files = {path.relative_to(expected) for path in expected.rglob("*")}
    assert {path.relative_to(place) for path in place.rglob("*")} == files


def test_the_verdict_is_the_exit_code(server, archives, place):
    assert run(place, urls=[server.serve("a", archives["nyud"])]) == 0
    (place / "depth" / "0001.npy").write_bytes(b"")
    assert run(place, "verify=true") == Level.BROKEN


def test_what_is_there_is_verified_and_never_overwritten(server, archives, place, caplog):
    caplog.set_level("INFO")
    write_miniature(place)
    (place / "mine").touch()
    assert run(place, "verify=true", urls=[server.serve("a", archives["nyud"])]) == Level.DIFFERS
    assert (place / "mine").is_file()
    assert server.requests == []
    assert f"{place} is not empty, so nothing is downloaded" in caplog.text


def test_a_root_that_is_a_file_is_refused(place):
    place.parent.mkdir()
    place.write_text("")
    with pytest.raises(UserError, match=r"data.root=.* cannot be used as a folder \(Not a directory\)"):
        run(place)


def test_a_place_that_cannot_be_made_is_refused(place):
    place.parent.write_text("")
    with pytest.raises(
        UserError, match=r"cannot be used as a folder \((Not a directory|File exists)\); choose another"
    ):
        run(place.parent / "deep" / "NYUDv2", urls=["http://unused"])


def test_a_download_that_breaks_off_leaves_nothing_and_is_made_anew(server, archives, place):
    half = len(archives["nyud"]) // 2
    url = server.serve("a", archives["nyud"], cuts=[half])
    assert f"{url}: transfer failed (IncompleteRead({half} bytes read" in refused(place, urls=[url])
    assert beside(place) == []
    run(place, urls=[url])
    assert beside(place) == ["NYUDv2"]


def test_an_interrupted_download_leaves_nothing(server, archives, place, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mtlsi_net.data_tools.download.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(place, urls=[server.serve("a", archives["nyud"])])
    assert beside(place) == []


def test_the_next_mirror_serves_where_one_does_not(server, archives, place, caplog):
    caplog.set_level("INFO")
    good = archives["nyud"]
    urls = [
        server.url("absent"),
        server.serve("cut", good, cuts=[1000]),
        server.serve("page", b"\n<!DOCTYPE html><html>Sign in"),
        server.serve("damaged", good[:-100] + bytes(100)),
        server.serve("good", good),
        server.url("not reached"),
    ]
    run(place, "keep_archive=true", urls=urls)
    assert server.requests == ["absent", "cut", "page", "damaged", "good"]
    for url, words in zip(urls, ("HTTP 404", "transfer failed", "is a web page", "is damaged"), strict=False):
        assert f"{url}: {words}" in caplog.text
    assert beside(place) == ["NYUDv2", "NYUDv2.tar.gz", "NYUDv2.tar.gz.bad"]  # no parts
    assert (place.parent / "NYUDv2.tar.gz").read_bytes() == good


def test_the_sha256_is_checked_where_it_is_known(server, archives, place):
    good = archives["nyud"]
    known = f"source.sha256={hashlib.sha256(good).hexdigest().upper()}"
    other = good[:-1] + bytes([good[-1] ^ 1])
    wrong = server.serve("other", other)
    message = refused(place, known, urls=[wrong])
    assert f"{wrong}: has sha256 {hashlib.sha256(other).hexdigest()} instead of" in message
    assert f"kept as {place.parent / 'NYUDv2.tar.gz.bad'}" in message
    assert run(place, known, urls=[wrong, server.serve("good", good)]) == 0


def test_where_all_fails_every_mirror_and_the_way_by_hand_are_named(server, place):
    browser = "{url:'https://share/x',browser:true,note:button Download}"
    message = refused(place, f"source.mirrors=[{server.url('absent')},{browser}]")
    assert f"{server.url('absent')}: HTTP 404" in message
    assert "https://share/x: needs a browser (button Download)" in message
    assert f"download it by hand to {place.parent / 'NYUDv2.tar.gz'}, or pass source.archive=FILE" in message
    assert len(server.requests) == 1
    assert "source.mirrors is empty" in refused(place, "source.mirrors=[]")


@pytest.mark.parametrize("given", [True, False])
def test_a_file_got_by_hand_is_used_and_kept(server, archives, place, tmp_path, given):
    archive = tmp_path / "downloads" / "x.tgz" if given else place.parent / "NYUDv2.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(archives["nyud"])
    run(place, *([f"source.archive={archive}"] if given else []), urls=[server.url("unused")])
    assert (place / "images" / "0001.png").is_file()
    assert server.requests == []
    assert archive.is_file()


def raise_denied(path):
    raise PermissionError(13, "Permission denied", str(path))


def test_a_bad_file_got_by_hand_is_named(place, archives, tmp_path, monkeypatch):
    assert "source.archive=nowhere is not a file; correct the path" in refused(place, "source.archive=nowhere")
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"<html>")
    assert refused(place, f"source.archive={archive}").startswith(f"{archive} is a web page instead of the archive")
    archive.write_bytes(b"nothing")
    message = refused(place, f"source.archive={archive}")
    assert message.startswith(f"{archive} is damaged or not an archive")
    assert "or pass source.archive=FILE" in message
    archive.write_bytes(archives["nyud"])
    monkeypatch.setattr("mtlsi_net.data_tools.download.sha256_of", raise_denied)
    message = refused(place, f"source.archive={archive}", "source.sha256=1234")
    assert message.startswith(f"{archive} cannot be read (Permission denied)")


def test_zips_serve_too_and_unsafe_ones_do_not(place, tmp_path):
    write_miniature(tmp_path / "NYUDv2")
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, "NYUDv2")
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr("../x", b"")
    message = refused(place, f"source.archive={archive}")
    assert "is unsafe to unpack: its entry '../x' points outside" in message
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, "NYUDv2")
    assert run(place, f"source.archive={archive}") == 0


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("ftp://x/y", "'ftp://x/y' is not valid; give a URL that starts with http:// or https://"),
        ("file:///x/y", "for a local file use source.archive=FILE"),
        ("{url:http://x,size:3}", "is not valid; give a URL"),
        ("{}", "is not valid"),
    ],
)
def test_mirrors_that_are_none_are_refused(place, mirror, words):
    assert words in refused(place, f"source.mirrors=[{mirror}]")


def test_a_misspelt_setting_of_the_source_is_named(place):
    assert "source.sha is set, but Source has no 'sha'" in refused(place, "+source.sha=1")


def test_a_source_of_ones_own(server, archives, tmp_path):
    folder = tmp_path / "my_conf" / "source"
    folder.mkdir(parents=True)
    url = server.serve("a", archives["nyud"])
    (folder / "mine.yaml").write_text(f"defaults: [nyud]\nmirrors: ['{url}']\n")
    place = tmp_path / "disk" / "NYUDv2"
    assert run(place, f"hydra.searchpath=[file://{folder.parent}]", "source=mine") == 0


# -- the transfer -----------------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 4000


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data.tar.gz"


def transfer(url, target, retries=0, timeout=5.0, progress=False):
    fetch(url, target, timeout=timeout, retries=retries, backoff=0.0, progress=progress)


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("how", [{}, {"length": False}, {"headers": {"Content-Encoding": "identity"}}])
def test_a_whole_file_comes_at_once(server, target, how):
    transfer(server.serve("a", BODY, **how), target)
    assert target.read_bytes() == BODY
    assert leftovers(target) == [target.name]
    (target.parent / "other").touch()
    assert target.stat().st_mode == (target.parent / "other").stat().st_mode


def test_progress_is_shown(server, target, capsys):
    transfer(server.serve("a", BODY), target, progress=True)
    assert "100%" in capsys.readouterr().err


def test_what_passes_is_tried_again_and_comes_whole(server, target, caplog):
    caplog.set_level("INFO")
    url = server.serve("a", BODY, failures=[503, 429], cuts=[500_000])
    transfer(url, target, retries=3)
    assert target.read_bytes() == BODY
    assert f"{url}: HTTP 503 Service Unavailable; trying again" in caplog.text
    assert f"{url}: transfer failed" in caplog.text


def test_a_chunked_answer_that_ends_early_is_no_file(server, target):
    url = server.serve("a", b"ff\r\nhalf", headers={"Transfer-Encoding": "chunked"}, length=False)
    with pytest.raises(ArchiveError, match="transfer failed"):
        transfer(url, target)
    assert leftovers(target) == []


def test_absent_files_and_servers(server, target):
    with pytest.raises(ArchiveError, match=r"^HTTP 404 Not Found$"):
        transfer(server.url("nothing"), target, retries=3)
    assert len(server.requests) == 1  # there is no use in asking again
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ArchiveError, match=r"^transfer failed \(.*refused\)$"):
            transfer(f"http://127.0.0.1:{unused.getsockname()[1]}/a", target)
    with pytest.raises(ArchiveError, match="transfer failed"):
        transfer("http://[bad/a", target, retries=3)
    length = server.serve("length", b"", headers={"Content-Length": "many"}, length=False)
    with pytest.raises(ArchiveError, match="transfer failed"):
        transfer(length, target)


def test_a_silent_server_is_given_up(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ArchiveError, match="timed out"):
        transfer(f"http://127.0.0.1:{silent.getsockname()[1]}/a", target, timeout=0.1)


def test_redirects_are_followed_unless_they_leave_the_web(server, target):
    server.serve("a", BODY)
    transfer(server.serve("b", b"", failures=[302], headers={"Location": server.url("a")}), target)
    assert target.read_bytes() == BODY
    for place in ("ftp://127.0.0.1/a", target.as_uri()):
        url = server.serve("c", b"", failures=[302], headers={"Location": place})
        with pytest.raises(ArchiveError, match=f"No connection adapters were found for '{place}'"):
            transfer(url, target)
    server.serve("loop", b"", failures=[302] * 40, headers={"Location": server.url("loop")})
    with pytest.raises(ArchiveError, match="Exceeded 30 redirects"):
        transfer(server.url("loop"), target)


def test_a_redirect_from_https_to_http_is_refused(target, monkeypatch):
    def answer(_, request, **__):
        response = requests.Response()
        response.status_code, response.url, response.raw = 302, request.url, io.BytesIO()
        response.headers["Location"] = "http://b"
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answer)
    with pytest.raises(ArchiveError, match="redirects to http://b, which is not safe"):
        transfer("https://a", target)


def test_a_full_disk_ends_it_before_it_begins(server, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(UserError, match=rf"/a needs at least 1.0 MB, but the disk of {target.parent} has 100 bytes fr"):
        transfer(server.serve("a", BODY), target)
    assert leftovers(target) == []


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    with pytest.raises(UserError, match=r"nowhere/data cannot be written \(No such file.*data.root"):
        transfer(server.serve("a", BODY), tmp_path / "nowhere" / "data")


def test_a_file_of_the_users_is_not_downloaded():
    with pytest.raises(UserError, match=r"this source is a file that you have: python -m mtlsi_net.prepare"):
        download(compose_config("data=nyud", "source=nyu_mat", name="download"))
