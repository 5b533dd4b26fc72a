"""Speed of rendering rooms on one core, without writing files."""

import time

from omegaconf import DictConfig
from threadpoolctl import threadpool_limits

from mtlsi_net.benchmarks.report import Report, take_turns, timings
from mtlsi_net.data.rooms.generate import encode
from mtlsi_net.data.rooms.render import render_room


def bench_rooms(cfg: DictConfig) -> Report:
    """Render ``cfg.images`` rooms of each of ``cfg.rooms.sizes`` a round and take the processor seconds of one."""

    def render(number: int, height: int, width: int) -> dict[str, float]:
        start = time.process_time()
        for index in range(number * cfg.images, (number + 1) * cfg.images):  # other rooms in every round
            encode(render_room(cfg.seed, index, height, width))
        return {f"{height}x{width}": (time.process_time() - start) / cfg.images}

    jobs = [lambda number, size=tuple(size): render(number, *size) for size in cfg.rooms.sizes]
    with threadpool_limits(1):  # as in the processes that make a data set
        seconds = take_turns(jobs, cfg.rounds, "rooms")
    return timings("rooms", seconds, "processor time of an image", {"images a round": cfg.images})
