"""Work for the processes of one run, and how tests start them; nothing here needs torch to be read.

``python -m helpers.processes FUNCTION ARGUMENT...`` starts two ranks that call one of these functions.
"""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtlsi_net.core import ranks


def processes(count: int) -> DictConfig:
    """Return as much of a configuration as starting processes takes."""
    return OmegaConf.create({"trainer": {"devices": count, "accelerator": "cpu"}})


def meet(cfg: DictConfig, folder: Path) -> float:  # noqa: ARG001 - what all ranks are called with
    """Agree on the first process's id; each leaves what it knows, the order of its turn, and how it starts data workers."""
    agreed = ranks.broadcast_from_rank_zero("id", os.getpid)

    def turn() -> None:
        with (folder / "turns").open("a") as file:
            file.write(f"{ranks.process_info().rank}\n")

    ranks.rank_zero_first("turn", turn)
    threads, info = os.environ.get("OMP_NUM_THREADS"), ranks.process_info()
    turns, workers = (folder / "turns").read_text().split(), multiprocessing.get_start_method()
    (folder / f"{info.rank}").write_text(f"{agreed} {info.size} {threads} {turns} {workers}")
    print(f"printed by {info.rank}")
    return float(agreed)


def die(cfg: DictConfig, folder: str, rank: str, how: str) -> float:
    """Let one process end once both are ready, while the other goes on for minutes."""
    if ranks.process_info().rank != int(rank):
        return sleep(cfg, folder)
    _ready(folder)
    while len(list(Path(folder).glob("ready *"))) < 2:
        time.sleep(0.05)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "leaves":
        sys.exit(7)
    if how == "is told":
        from mtlsi_net.core.errors import UserError

        raise UserError("the label is torn; get it again")
    raise ValueError("something nobody thought of")


def save_after_signal(cfg: DictConfig, folder: str) -> float:  # noqa: ARG001 - what all ranks are called with
    """Take some time to save after the first signal, then leave as training does; note all signals that came."""
    came: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, lambda number, _: came.append(number))
    _ready(folder)
    while not came:
        time.sleep(0.05)
    end = time.monotonic() + 1 + 4 * ranks.process_info().rank  # the second needs more than a broken run's ranks have
    while time.monotonic() < end:
        time.sleep(0.05)
    (Path(folder) / f"saved {ranks.process_info().rank}").write_text(
        " ".join(signal.Signals(number).name for number in came)
    )
    sys.exit(130 if came[0] == signal.SIGINT else 75)


def hang(cfg: DictConfig, folder: str) -> float:
    """Hear no signal, as in a transfer that never ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return sleep(cfg, folder)


def sleep(cfg: DictConfig, folder: str) -> float:  # noqa: ARG001 - what all ranks are called with
    """Do nothing for minutes."""
    _ready(folder)
    time.sleep(300)
    return 0.0


def is_gone(process: int, group: bool = False, patience: float = 60.0) -> bool:
    """Wait for the end of a process, or of all of a group; return whether it came."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            (os.killpg if group else os.kill)(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def _ready(folder: str) -> None:
    (Path(folder) / f"ready {ranks.process_info().rank}").write_text(str(os.getpid()))


def gradients(cfg: DictConfig, path: Path) -> float:
    """Train as configured; the first process keeps the gradient of every optimiser step. Return the last loss."""
    import torch
    from lightning.pytorch.callbacks import Callback

    from mtlsi_net.engine.build import build_data, build_network, build_tasks, fit_priors
    from mtlsi_net.engine.trainer import build_module, build_training, open_run

    class Keep(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
            steps.append({k: p.grad.clone() for k, p in pl_module.named_parameters() if p.grad is not None})

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
            validated.append(trainer.global_step)

    steps: list[dict[str, torch.Tensor]] = []
    validated: list[int] = []
    torch.manual_seed(0)
    folder, config = open_run(cfg)
    tasks = build_tasks(cfg)
    data = build_data(cfg, tasks)
    network = build_network(cfg, tasks)
    module = build_module(cfg, network, tasks, priors=fit_priors(data, tasks), config=config)
    trainer = build_training(cfg, folder, module, data)
    trainer.callbacks.append(Keep())
    trainer.fit(module, datamodule=data)
    loss = float(trainer.callback_metrics["train/loss"])
    if ranks.is_rank_zero():
        torch.save({"gradients": steps, "validated": validated, "loss": loss}, path)
    return loss


if __name__ == "__main__":
    from mtlsi_net.cli.launch import start

    if "IN_BACKGROUND" in os.environ:  # a shell's background jobs ignore interrupts
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    start(globals()[sys.argv[1]], processes(2), *sys.argv[2:])
