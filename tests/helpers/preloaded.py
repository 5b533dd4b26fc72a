"""Imports of the server that commands of tests are forked from (see ``commands``); nothing else may happen here."""

import gc

import albumentations  # noqa: F401
import numba  # noqa: F401
import wandb  # noqa: F401

import mtlsi_net.analysis.probe
import mtlsi_net.comparison.compare
import mtlsi_net.data_tools.verify
import mtlsi_net.engine.evaluate
import mtlsi_net.engine.job
import mtlsi_net.engine.score
import mtlsi_net.inference.predict
import mtlsi_net.metrics.boundary.metric  # noqa: F401

gc.collect()
gc.freeze()  # forks then share these objects' memory, and never walk through them
