"""Layout of ``tests/unit``: that of the package, so that a module's tests are found at its own path."""

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parents[1] / "src" / "mtlsi_net"
ACROSS_MODULES = {
    "metrics/test_vectors.py": "values of several metrics that another implementation left in one file",
    "models/test_compile.py": "every network, compiled",
    "test_docstring_examples.py": "every module's examples",
    "test_layout.py": "this file",
}
"""Test file -> why it has no module of its own."""


def test_every_file_is_named_after_a_module_or_package():
    unmatched = set()
    for path in TESTS.rglob("test_*.py"):
        folder, stem = path.relative_to(TESTS).parent, path.stem.removeprefix("test_")
        places = [PACKAGE / folder / name for name in (f"{stem}.py", stem, f"__{stem}__.py")]
        if not any(place.exists() for place in places):
            unmatched.add((folder / path.name).as_posix())
    assert unmatched == ACROSS_MODULES.keys()
