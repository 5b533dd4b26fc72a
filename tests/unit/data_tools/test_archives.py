import io
import os
import shutil
import stat
import tarfile
import zipfile
from contextlib import suppress

import pytest

from mtlsi_net.core.errors import UserError
from mtlsi_net.data_tools.archives import ArchiveError, unpack

LISTS = ("gt_sets/train.txt", "gt_sets/val.txt")
FILES = {"gt_sets/train.txt": b"0001\n", "gt_sets/val.txt": b"0002\n", "images/0001.png": os.urandom(5000)}


def entry(name, kind=tarfile.REGTYPE, target="", body=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(body)
    return info, io.BytesIO(body)


def write_tar(path, *further, top="NYUDv2/", mode="w:gz"):
    """Write the data set under ``top``, and further entries after it."""
    with tarfile.open(path, mode) as tar:
        for item in (*(entry(top + name, body=body) for name, body in FILES.items()), *further):
            tar.addfile(*item)
    return path


def write_zip(path, *further, top="NYUDv2/"):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, body in (*((top + name, body) for name, body in FILES.items()), *further):
            zipped.writestr(name, body)
    return path


def install(archive, root):
    unpack(archive, LISTS, root, progress=False)


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "NYUDv2"


@pytest.mark.parametrize("top", ["", "./", "NYUDv2/", "./other_name/"])
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_content_at_the_top_and_in_a_folder_ends_up_at_the_root(tmp_path, root, write, top):
    install(write(tmp_path / "archive", top=top), root)
    assert contents(root) == FILES
    assert os.listdir(root.parent) == [root.name]
    assert stat.S_IMODE(root.stat().st_mode) == stat.S_IMODE(root.parent.stat().st_mode)


@pytest.mark.parametrize("mode", ["w", "w:xz", "w:bz2"])
def test_other_compressions_and_an_empty_folder_in_the_place(tmp_path, root, mode):
    root.mkdir()
    install(write_tar(tmp_path / "archive", mode=mode), root)
    assert contents(root) == FILES


def test_links_that_stay_inside_are_unpacked(tmp_path, root):
    links = (
        entry("NYUDv2/gt_sets/test.txt", tarfile.SYMTYPE, "../gt_sets/./val.txt"),
        entry("NYUDv2/same.txt", tarfile.LNKTYPE, "NYUDv2/gt_sets/val.txt"),
    )
    install(write_tar(tmp_path / "archive", *links), root)
    assert contents(root) == FILES | {"gt_sets/test.txt": b"0002\n", "same.txt": b"0002\n"}


def chain_of_links():
    """Return CVE-2025-4517: links so deep that the filter of older Pythons does not follow them, then a file behind them."""
    folder, items, path = "d" * 247, [], ""
    for step in "abcdefghijklmnop":
        items += [entry(path + folder, tarfile.DIRTYPE), entry(path + step, tarfile.SYMTYPE, folder)]
        path += folder + "/"
    deep = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    items.append(entry(deep, tarfile.SYMTYPE, "../" * 16))
    items.append(entry("escape", tarfile.SYMTYPE, f"{deep}/../../../stolen"))
    return [*items, entry("escape/x", body=b"written outside")]


LINK = entry("NYUDv2/link", tarfile.SYMTYPE, "gt_sets")
UNSAFE = {
    "climbing": ([entry("../x")], r"'../x' .*outside the destination"),
    "climbing in the middle": ([entry("NYUDv2/../../x")], "outside the destination"),
    "symlink out": ([entry("NYUDv2/a", tarfile.SYMTYPE, "../../x")], r"'NYUDv2/a' .*outside the destination"),
    "absolute symlink": ([entry("NYUDv2/a", tarfile.SYMTYPE, "/etc/passwd")], "absolute path"),
    "symlink out through a link": ([LINK, entry("NYUDv2/b", tarfile.SYMTYPE, "link/../../..")], "outside"),
    "symlink to nothing": ([entry("NYUDv2/a", tarfile.SYMTYPE, "b")], "link to 'b', which is not in the archive"),
    "symlink to itself": ([entry("NYUDv2/a", tarfile.SYMTYPE, "a")], "link to 'a', which is not in the archive"),
    "symlink through a later link": (
        [entry("NYUDv2/a", tarfile.SYMTYPE, "b/../.."), entry("NYUDv2/b", tarfile.SYMTYPE, "../NYUDv2")],
        "not in the archive",
    ),
    "hardlink out": ([entry("a", tarfile.LNKTYPE, "../x")], "link to '../x', which is not an earlier file"),
    "absolute hardlink": ([entry("a", tarfile.LNKTYPE, "/etc/passwd")], "outside|absolute"),
    "hardlink to a link": ([LINK, entry("a", tarfile.LNKTYPE, "NYUDv2/link")], "which is not an earlier file"),
    "device": ([entry("NYUDv2/null", tarfile.CHRTYPE)], "special file"),
    "pipe": ([entry("NYUDv2/pipe", tarfile.FIFOTYPE)], "special file"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_tars_are_refused_and_leave_nothing(tmp_path, root, case):
    further, words = UNSAFE[case]
    with pytest.raises(ArchiveError, match=f"is unsafe to unpack: its entry .*{words}"):
        install(write_tar(tmp_path / "archive", *further), root)
    assert os.listdir(root.parent) == []
    assert sorted(os.listdir(tmp_path)) == ["archive", "data"]


def test_a_chain_of_links_does_not_lead_out(tmp_path, root):
    (tmp_path / "stolen").mkdir()
    with pytest.raises((ArchiveError, UserError)):
        install(write_tar(tmp_path / "archive", *chain_of_links(), top=""), root)
    assert os.listdir(tmp_path / "stolen") == os.listdir(root.parent) == []


@pytest.mark.parametrize("further", [[LINK, entry("NYUDv2/link/x")], [LINK, entry("NYUDv2/link")]])
def test_nothing_is_written_through_a_link(tmp_path, root, further):
    with suppress(ArchiveError, UserError):
        install(write_tar(tmp_path / "archive", *further), root)
    assert not (root / "gt_sets" / "x").exists()


def zip_link():
    info = zipfile.ZipInfo("NYUDv2/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def zip_encrypted(path):
    """Set the flag of encryption in the first entry of the directory."""
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "words"),
    [("../x", "points outside"), ("/tmp/x", "points outside"), (zip_link(), "is a link or encrypted")],
)
def test_unsafe_zips_are_refused_and_leave_nothing(tmp_path, root, name, words):
    with pytest.raises(ArchiveError, match=f"is unsafe to unpack: its entry .*{words}"):
        install(write_zip(tmp_path / "archive", (name, b"../../x")), root)
    assert os.listdir(root.parent) == []


def test_encrypted_zips_are_refused(tmp_path, root):
    archive = write_zip(tmp_path / "archive")
    zip_encrypted(archive)
    with pytest.raises(ArchiveError, match="is a link or encrypted"):
        install(archive, root)


def spoil(data, place):
    return data[:place] + bytes(255 - byte for byte in data[place : place + 20]) + data[place + 20 :]


DAMAGED = {
    "truncated": lambda data: data[: len(data) // 2],
    "flipped bytes": lambda data: spoil(data, len(data) // 2),
    "wrong checksum": lambda data: spoil(data, len(data) - 8),
    "cut by its checksum": lambda data: data[:-8],
    "a text": lambda _: b"this is no archive" * 100,
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_damaged_archives_are_refused_and_leave_nothing(tmp_path, root, write, case):
    archive = write(tmp_path / "archive")
    archive.write_bytes(DAMAGED[case](archive.read_bytes()))
    with pytest.raises(ArchiveError, match="is damaged or not an archive"):
        install(archive, root)
    assert os.listdir(root.parent) == []


def test_an_archive_without_the_lists_is_another_data_set(tmp_path, root):
    with tarfile.open(tmp_path / "archive", "w:gz") as tar:
        for number in range(7):
            tar.addfile(*entry(f"folder{number}/train.txt"))
    words = r"gt_sets/train.txt and gt_sets/val.txt are not at its top .*\(folder0.*folder4 and 2 more\)"
    with pytest.raises(ArchiveError, match=words):
        install(tmp_path / "archive", root)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_archive_that_does_not_fit_leaves_nothing(tmp_path, root, monkeypatch, write):
    archive = write(tmp_path / "archive")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9000, 5000, 4000))
    words = r"the rest of the archive needs at least 5.0 kB, but the disk of .*data.* has 4.0 kB free"
    with pytest.raises(UserError, match=words):
        install(archive, root)
    assert os.listdir(root.parent) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_unpacking_leaves_nothing(tmp_path, root, monkeypatch, error):
    archive = write_tar(tmp_path / "archive")
    extract, calls = tarfile.TarFile.extract, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            assert len(list(root.parent.rglob("*.txt"))) == 1
            raise error
        return extract(*arguments, **options)

    monkeypatch.setattr(tarfile.TarFile, "extract", interrupted)
    expected = UserError if isinstance(error, OSError) else error
    with pytest.raises(expected) as raised:
        install(archive, root)
    assert os.listdir(root.parent) == []
    if expected is UserError:
        assert f"{archive} cannot be unpacked to {root} (No space left on device)" in str(raised.value)


def test_what_appears_at_the_root_meanwhile_is_not_overwritten(tmp_path, root):
    archive = write_tar(tmp_path / "archive")
    root.mkdir()
    (root / "mine").touch()
    with pytest.raises(UserError, match=r"cannot be unpacked to .*not empty"):
        install(archive, root)
    assert os.listdir(root) == ["mine"]


def test_a_python_that_cannot_unpack_safely_says_so(tmp_path, root, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(UserError, match=r"this Python cannot unpack a tar safely; use Python 3\.11\.4"):
        install(write_tar(tmp_path / "archive"), root)
