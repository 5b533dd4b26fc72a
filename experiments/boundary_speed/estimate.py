"""What the boundary estimate during training costs, beside an epoch of the demo.

``python experiments/boundary_speed/estimate.py`` reads the demo's rooms, which ``make demo`` renders.
Wall-clock seconds, medians; the network is not trained.
"""

import statistics
import time
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_module

from mtlsi_net.engine.build import build_data, build_network, build_tasks, fit_priors
from mtlsi_net.engine.trainer import build_module
from mtlsi_net.tasks.metrics import TaskMetrics, postprocess

STEPS, ROUNDS = 12, 5


def median_seconds(work: Callable[[], object], count: int) -> float:
    """Return the median time of ``work``, after two calls that warm up."""
    seconds = []
    for _ in range(count + 2):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def main() -> None:
    """Print the seconds of an epoch and of one estimate, and the estimate's share."""
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        cfg = compose("train", ["experiment=rooms_demo", "data.num_workers=0"])
    tasks = build_tasks(cfg)
    data = build_data(cfg, tasks)
    priors = fit_priors(data, tasks)
    network = build_network(cfg, tasks)
    network.set_priors(priors)
    module = build_module(cfg, network, tasks, priors=priors, config={})
    optimizer, loader = torch.optim.AdamW(network.parameters(), 1e-3), data.train_dataloader()
    batches = iter(loader)

    def step() -> None:
        batch = data.to_device(next(batches), module.device)
        final, aux = module.losses(module(batch["image"], batch["valid"]), batch["targets"])
        module.weighting(module.weighting.join(final, aux)).backward()
        optimizer.step()
        optimizer.zero_grad()

    epoch = median_seconds(step, STEPS) * len(loader)
    network.eval()
    boundary = {"boundary": tasks["boundary"]}
    with torch.no_grad():
        batches = (data.to_device(batch, module.device) for batch in data.val_dataloader())
        shown = [(b, postprocess(boundary, module(b["image"], b["valid"]).final)) for b in batches]

    def estimate() -> None:
        metrics = TaskMetrics(boundary, estimate=True)
        for batch, values in shown:
            metrics.update(values, batch)
        metrics.compute()

    seconds = median_seconds(estimate, ROUNDS)
    print(
        f"epoch {epoch:.1f} s, estimate on {data.estimate_images} images {seconds:.2f} s: {100 * seconds / epoch:.2f} %"
    )


if __name__ == "__main__":
    main()
