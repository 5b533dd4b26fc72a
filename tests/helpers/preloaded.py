"""Imports of the server that commands of tests are forked from (see ``commands``), and the size of their usual network.

Nothing may happen here that starts threads.
"""

import gc
from pathlib import Path

import albumentations  # noqa: F401
import numba  # noqa: F401
import pytest
import wandb  # noqa: F401
from helpers.measured_once import remember_sizes
from helpers.miniature import SIZE, compose_config, short_overrides

import mtlsi_net.analysis.probe
import mtlsi_net.comparison.compare
import mtlsi_net.data_tools.verify
import mtlsi_net.engine.evaluate
import mtlsi_net.engine.job
import mtlsi_net.engine.score
import mtlsi_net.inference.predict
import mtlsi_net.metrics.boundary.metric
from mtlsi_net.engine.build import build_network, build_tasks

remember_sizes(pytest.MonkeyPatch())
_cfg = compose_config(*short_overrides(Path(), Path()))
mtlsi_net.engine.evaluate.measure_size(build_network(_cfg, build_tasks(_cfg)), SIZE)
gc.collect()
gc.freeze()  # forks then share these objects' memory, and never walk through them
