"""How fast rooms are rendered on one core, files left out."""

import itertools
import time
from pathlib import Path

from omegaconf import DictConfig
from threadpoolctl import threadpool_limits

from mtlsi_net.benchmarks.timings import Seconds, publish_timings, take_turns
from mtlsi_net.data.room_generation import encode
from mtlsi_net.data.room_renderer import render_room
from mtlsi_net.utils.errors import UserError


def bench_rooms(cfg: DictConfig) -> Seconds:
    """Render ``cfg.images`` rooms of each of ``cfg.rooms.sizes`` a round; write table, plot and record.

    Returns:
        Size -> processor seconds of one image, one value a round.

    Raises:
        UserError: no image.
    """
    if cfg.images < 1:
        raise UserError(f"images={cfg.images}; give at least 1")
    indices = itertools.count()

    def render(height: int, width: int) -> float:
        start = time.process_time()
        for _ in range(cfg.images):
            encode(render_room(cfg.seed, next(indices), height, width))
        return (time.process_time() - start) / cfg.images

    jobs = {f"{h}x{w}": lambda h=h, w=w: render(h, w) for h, w in cfg.rooms.sizes}
    with threadpool_limits(1):  # as in the processes that make a data set
        seconds = take_turns(jobs, cfg.rounds, "rooms")
    settings = {"images a round": cfg.images}
    publish_timings("rooms", seconds, "processor time of an image", cfg.seed, Path(cfg.paths.run_dir), settings)
    return seconds
