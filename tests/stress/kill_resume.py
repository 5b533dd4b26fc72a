"""Kill a training run again and again, at random moments; in the end it is the uninterrupted one.

``PYTHONPATH=tests python tests/stress/kill_resume.py [CYCLES] [SEED]``
"""

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from helpers.killing import start, wait_for
from helpers.miniature import short_overrides, write_miniature

from mtlsi_net.core.io import read_history
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.lit.checkpoint_io import damage


def main(cycles: int, seed: int) -> int:
    """Return 0 if no checkpoint was lost and all logged losses are equal."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = write_miniature(root / "data", train=5)
        options = ["logger=csv", "checkpoint_every=1", "trainer.log_every_n_steps=1", "trainer.val_check_interval=7"]
        settings = {key: [*short_overrides(data, root / key, steps=4 * cycles), *options] for key in ("whole", "cut")}
        out, err = (whole := start(settings["whole"], root)).communicate()
        assert whole.returncode == 0, out + err
        cut, lost = RunFolder(root / "cut"), 0
        for cycle in range(cycles):
            before = cut.last.stat().st_mtime_ns if cut.last.is_file() else 0
            process = start([*settings["cut"], *(["ckpt=last"] if cut.last.is_file() else [])], root)
            wait_for(lambda: cut.last.is_file() and cut.last.stat().st_mtime_ns > before, process)  # noqa: B023
            part = cut.last.with_suffix(".tmp")
            if cycle % 2:  # every other kill while a checkpoint is being written, as far as one can hit that
                wait_for(part.exists, process)
            else:
                time.sleep(rng.uniform(0, 0.3))
            during = part.exists()
            process.send_signal(signal.SIGKILL)
            process.communicate()
            broken = damage(cut.last)
            lost += broken is not None
            print(
                f"cycle {cycle + 1}: killed{' while writing' if during else ''}; {broken or 'last.ckpt whole'}",
                flush=True,
            )
        out, err = (final := start([*settings["cut"], "ckpt=last"], root)).communicate()
        assert final.returncode == 0, out + err
        same = read_history(root / "cut" / "metrics.csv") == read_history(root / "whole" / "metrics.csv")
        print(f"{cycles} kills, {lost} checkpoints lost, logged losses {'equal' if same else 'DIFFERENT'}")
        return int(lost > 0 or not same)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in (sys.argv[1:] + ["20", "0"][len(sys.argv) - 1 :])[:2])))
