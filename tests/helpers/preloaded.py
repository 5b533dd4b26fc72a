"""Imports of the server that commands of tests are forked from (see ``commands``), and what their usual network takes.

No thread may be left that was started here.
"""

import gc
from pathlib import Path

import albumentations  # noqa: F401
import numpy as np
import pytest
import wandb  # noqa: F401
from helpers.composed_once import remember_choices
from helpers.measured_once import remember_sizes
from helpers.miniature import SIZE, compose_config, short_overrides

import mtlsi_net.analysis.probe
import mtlsi_net.comparison.compare
import mtlsi_net.data_tools.verify
import mtlsi_net.engine.evaluate
import mtlsi_net.engine.job
import mtlsi_net.engine.score
import mtlsi_net.inference.predict
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure

patch = pytest.MonkeyPatch()
remember_choices(patch)
cfg = compose_config(*short_overrides(Path(), Path()))
network = build_network(cfg, build_tasks(cfg))
remember_sizes(patch)
network.check_size(SIZE)
mtlsi_net.engine.evaluate.measure_size(network, SIZE)
edge = np.eye(*SIZE, dtype=np.uint8)
BoundaryFMeasure("nyud").update(edge, edge)  # numba reads the machine code of its functions
del cfg, network
gc.collect()
gc.freeze()  # forks then share these objects' memory, and never walk through them
