"""The training command in a process group of its own, which is sent a signal at one moment, as by a shell or a scheduler.

``python -m helpers.signalled OVERRIDES``; ``SIGNAL`` and ``MOMENT`` are environment variables, moments those of ``MOMENTS``.
"""

import os
import runpy
import signal
from typing import Any
from unittest import mock

MOMENTS = {
    "imports": "mtlsi_net.cli.entry.keep_freed_memory",
    "data check": "mtlsi_net.data.reader.SampleReader.check_files",
    "priors": "mtlsi_net.engine.train.fit_priors",
    "trainer setup": "mtlsi_net.lit.module.MultiTaskModule.configure_optimizers",
    "third step": "mtlsi_net.lit.module.MultiTaskModule.training_step",
    "validation": "mtlsi_net.lit.module.MultiTaskModule.on_validation_start",
    "checkpoint": "mtlsi_net.lit.checkpoint_io.torch.save",
    "last checkpoint": "mtlsi_net.lit.checkpoint_io.torch.save",
    "scores": "mtlsi_net.engine.train.score",
}
"""Moment -> the function whose call it is."""

NTH = {"third step": 3, "checkpoint": 2, "last checkpoint": 5}
"""Calls until the moment, where it is not the first."""


def main() -> None:
    """Run training; rank zero, or the only process, sends the signal to the group of the command."""
    group, number, moment = os.getpgrp(), signal.Signals[os.environ["SIGNAL"]], os.environ["MOMENT"]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored where the tests run under nohup
    target = MOMENTS[moment]
    honest, calls = _find(target), 0

    def signalled(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == NTH.get(moment, 1) and os.environ.get("RANK", "0") == "0":
            os.killpg(group, number)
            if "TWICE" in os.environ:  # also to the process, as timeout and srun do
                os.kill(os.getpid(), number)
        return honest(*arguments, **options)

    with mock.patch(target, signalled):
        runpy.run_module("mtlsi_net.train", run_name="__main__", alter_sys=True)


def _find(target: str) -> Any:
    import importlib

    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise AssertionError(target)


if __name__ == "__main__":
    main()
