import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import mtlsi_net
from mtlsi_net.__main__ import commands, listing, main

SRC = Path(mtlsi_net.__file__).parent


def run(*words):
    script = (
        "import sys; sys.argv[0] = 'mtlsi-net'; from mtlsi_net.__main__ import main; main()"  # as the console script
    )
    return subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)


def test_every_entry_point_is_listed_with_one_line():
    entries = {path.stem for path in SRC.glob("*.py") if "run_command(" in path.read_text()}
    assert set(commands()) == entries >= {"train", "evaluate", "predict", "verify_data"}
    for name, purpose in commands().items():
        assert 10 < len(purpose) < 80, name
        assert f"  {name} " in listing()


def test_the_list_needs_no_torch():
    code = "import runpy, sys; sys.argv = ['mtlsi-net']; runpy.run_module('mtlsi_net', run_name='__main__'); "
    code += "assert not {'torch', 'hydra', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, listing())


def test_an_unknown_command_ends_with_one_line():
    done = run("trian", "seed=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: 'trian' is not a command; did you mean 'train'?\n"


def test_a_commands_help_is_its_own():
    own = subprocess.run(
        [sys.executable, "-m", "mtlsi_net.train", "--help"], capture_output=True, text=True, check=True
    )
    assert run("train", "--help").stdout == own.stdout


def test_a_command_runs_as_its_module_would():
    cfg = run("verify-data", "data=nyud", "data.root=here", "--cfg", "job")
    assert cfg.returncode == 0, cfg.stderr
    assert "root: here" in cfg.stdout


def test_records_name_the_modules_command(monkeypatch):
    seen = {}
    monkeypatch.setattr(sys, "argv", ["/bin/mtlsi-net", "train", "seed=1"])
    monkeypatch.setattr(sys, "orig_argv", ["/bin/python", "/bin/mtlsi-net", "train", "seed=1"])
    monkeypatch.setattr(runpy, "run_module", lambda name, **_: seen.update(name=name, argv=[*sys.argv, *sys.orig_argv]))
    main()
    assert seen["name"] == "mtlsi_net.train"
    assert seen["argv"] == ["/bin/mtlsi-net", "seed=1", "/bin/python", "-m", "mtlsi_net.train", "seed=1"]


def test_type_checkers_see_the_names_that_can_be_imported():
    assert set(re.findall(r"(\w+) as \1", Path(mtlsi_net.__file__).read_text())) == set(mtlsi_net.__all__)


def test_the_library_is_what_all_names():
    for name in mtlsi_net.__all__:
        found = getattr(mtlsi_net, name)
        assert found.__name__ == name
        assert found.__module__.startswith("mtlsi_net.")
    assert {"MTLSINet", "MultiScaleQueryFusion", "SemanticTokenDistiller", "CrossWindowBlock", "load"} < set(
        dir(mtlsi_net)
    )
    with pytest.raises(AttributeError, match="no attribute 'MTLSI'"):
        _ = mtlsi_net.MTLSI
