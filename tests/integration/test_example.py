"""The example of a decoder in a package of its own: installed outside the checkout, found, trained."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.miniature import short_overrides, write_miniature

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_decoder"


@pytest.mark.slow
def test_an_installed_decoder_is_found_and_trains(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source)  # a build leaves files where it runs
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, timeout=300)

    data = write_miniature(tmp_path / "data")
    overrides = [o for o in short_overrides(data, tmp_path / "run") if not o.startswith("model.head_dim")]
    done = subprocess.run(
        [sys.executable, "-m", "mtlsi_net.train", "model=my_decoder", *overrides],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "my_decoder.network.MyDecoderNet" in (tmp_path / "run" / "config.yaml").read_text()
    assert (tmp_path / "run" / "metrics.json").is_file()
