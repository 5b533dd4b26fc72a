"""Examples in docstrings: they run, print what they say, and the main names of the library have one."""

import doctest
import importlib
from pathlib import Path

import pytest

import mtlsi_net

PACKAGE = Path(mtlsi_net.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text())
MAIN = (
    *("MTLSINet", "MultiScaleQueryFusion", "SemanticTokenDistiller", "SemanticDecoder", "TimmEncoder", "TargetSpec"),
    *("DepthMetric", "NormalsMetric", "SegmentationMetric", "SaliencyMetric", "BoundaryFMeasure", "delta_m"),
    *("build_network", "load"),
)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_the_examples_of_a_module_print_what_they_say(path, capsys):
    module = importlib.import_module(".".join(["mtlsi_net", *path.with_suffix("").parts]))
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", MAIN)
def test_a_main_name_of_the_library_has_an_example(name):
    assert ">>> " in getattr(mtlsi_net, name).__doc__
