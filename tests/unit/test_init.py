"""The library alone, without trainers and configurations; import-linter holds what its packages may import."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "helpers" / "library_alone.py"


def test_networks_metrics_tasks_and_saved_models_need_no_trainer(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
