"""Rooms on other CPUs: the same files, whatever instructions the libraries use."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtlsi_net.data.rooms.generate import encode, generate_rooms
from mtlsi_net.data.rooms.render import render_room

FEW = {"train": 5, "val": 1, "height": 48, "width": 64, "seed": 11, "workers": 1, "progress": False}
PINNED = {
    "images": "1740208a4c6a0470",
    "segmentation": "6efbca3eb66c8ce2",
    "normals": "957436e961a784df",
    "edge": "ae90cdd428082334",
    "depth": "95afea32cc59df64",
    "cameras": "d33f45d90679dcf3",
}
"""SHA-256 (first 16 digits) of six rooms of version 3, decoded: PNG files depend on the version of zlib."""


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("rooms") / "here"
    generate_rooms(root, **FEW)
    return files(root)


def wide_instructions() -> str:
    """Return the instruction sets that numpy found on this CPU and can do without."""
    return " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))


@pytest.mark.parametrize(
    "cpu",
    [
        {"OPENBLAS_CORETYPE": "Haswell", "OPENCV_CPU_DISABLE": "AVX512-SKX", "OPENCV_IPP": "disabled"},
        {
            "OPENBLAS_CORETYPE": "Prescott",
            "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,AVX,FP16,SSE4.2,SSE4.1",
            "OPENCV_IPP": "disabled",
            "NPY_DISABLE_CPU_FEATURES": wide_instructions(),
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-FMA,-FMA4",
            "NUMBA_CPU_NAME": "generic",  # numba's cache tells CPUs apart
        },
    ],
    ids=["a CPU of 2013", "a CPU of 2004"],
)
def test_another_cpu_writes_the_same_files(here, tmp_path, cpu):
    imports = "from pathlib import Path; from mtlsi_net.data.rooms.generate import generate_rooms"
    code = f"{imports}; generate_rooms(Path({str(tmp_path / 'rooms')!r}), **{FEW})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=os.environ | cpu)
    there = files(tmp_path / "rooms")
    assert there.keys() == here.keys()
    assert [name for name in here if there[name] != here[name]] == []


def test_rooms_are_those_of_the_version():
    digests = {name: hashlib.sha256() for name in PINNED}
    for index in range(6):
        room = render_room(11, index, 48, 64)
        parts = encode(room) | {"depth": room.depth.astype("<f4")}
        for name, pixels in parts.items():
            digests[name].update(np.ascontiguousarray(pixels).tobytes())
        digests["cameras"].update(json.dumps(room.intrinsics, sort_keys=True).encode())
    assert {name: digest.hexdigest()[:16] for name, digest in digests.items()} == PINNED
