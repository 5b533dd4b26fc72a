"""Table of settings: what each does to a resumed run, to the rows of a comparison, and to the names of a sweep's jobs."""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, NamedTuple

from mtlsi_net.core.io import flatten


class Effect(Enum):
    """What another value of a setting does to a run that is resumed with it."""

    NEUTRAL = "neutral"
    """The run ends as it would have with this value from the beginning, bit for bit on a CPU with one thread."""
    CONTINUES = "continues"
    """The run trains on the same samples in the same steps, rounded or averaged otherwise: said and recorded."""
    EXTENDS = "extends"
    """The run is trained over another number of steps: it continues in a run folder of its own."""
    DIFFERENT = "different"
    """It is another run: refused."""


class Setting(NamedTuple):
    """Row of the table: a setting, with everything below it that has no row of its own."""

    effect: Effect = Effect.DIFFERENT
    same_row: bool = False
    """Whether the runs of one row of a comparison may differ in it."""
    names_job: bool = True
    """Whether an override of it is part of the name of a sweep's job folder. Changing it renames existing folders."""


_NEUTRAL, _CONTINUES, _EXTENDS, _DIFFERENT = Effect

SETTINGS: Mapping[str, Setting] = {
    # where a run reads and writes, and how it is watched
    "paths": Setting(_NEUTRAL, same_row=True, names_job=False),
    "sweep": Setting(_NEUTRAL, same_row=True, names_job=False),
    "ckpt": Setting(_NEUTRAL, same_row=True, names_job=False),  # a sweep's jobs that extend runs are named by these
    "logger": Setting(_NEUTRAL, same_row=True, names_job=False),
    "data.root": Setting(_NEUTRAL, same_row=True, names_job=False),
    "data.cache_dir": Setting(_NEUTRAL, same_row=True, names_job=False),
    "data.decoded_dir": Setting(_NEUTRAL, same_row=True, names_job=False),
    "data.num_workers": Setting(_NEUTRAL, same_row=True, names_job=False),
    "trainer.enable_progress_bar": Setting(_NEUTRAL, same_row=True, names_job=False),
    "max_time": Setting(_NEUTRAL, same_row=True, names_job=False),
    "trainer.max_time": Setting(_NEUTRAL, same_row=True, names_job=False),  # its earlier name
    "checkpoint_every": Setting(_NEUTRAL, same_row=True, names_job=False),
    "name": Setting(_NEUTRAL, same_row=True),
    "pictures": Setting(_NEUTRAL, same_row=True),
    "callbacks": Setting(_NEUTRAL, same_row=True),
    "trainer.log_every_n_steps": Setting(_NEUTRAL, same_row=True),
    "trainer.enable_model_summary": Setting(_NEUTRAL, same_row=True),
    "trainer.profiler": Setting(_NEUTRAL, same_row=True),
    # how it is computed, to the bit
    "non_finite": Setting(_NEUTRAL, same_row=True),
    "activation_checkpointing": Setting(_NEUTRAL, same_row=True),
    # scored at the end only, all of it with one value
    "data.max_train_scores": Setting(_NEUTRAL, same_row=True),
    "data.test_split": Setting(_NEUTRAL, same_row=True),
    # how it is computed, but for rounding and for statistics of a device's own part of a batch
    "compile": Setting(_CONTINUES, same_row=True),
    "data.eval_batch_size": Setting(_CONTINUES, same_row=True),  # validations choose the best weights
    "data.max_val_images": Setting(_CONTINUES, same_row=True),
    "trainer.accelerator": Setting(_CONTINUES, same_row=True),
    "trainer.devices": Setting(_CONTINUES, same_row=True),
    "trainer.num_nodes": Setting(_CONTINUES, same_row=True),
    "trainer.strategy": Setting(_CONTINUES, same_row=True),
    "trainer.sync_batchnorm": Setting(_CONTINUES),
    "trainer.precision": Setting(_CONTINUES),
    "trainer.benchmark": Setting(_CONTINUES),
    "trainer.deterministic": Setting(_CONTINUES),
    "data.micro_batch": Setting(_CONTINUES),
    # how long it is trained
    "trainer.max_steps": Setting(_EXTENDS),
    "trainer.min_steps": Setting(_EXTENDS),
    "trainer.max_epochs": Setting(_EXTENDS),
    "trainer.min_epochs": Setting(_EXTENDS),
    "callbacks.early_stopping": Setting(_EXTENDS),  # and every other callback of that class
    # what is trained; settings without a row are such too
    "init_from": Setting(_DIFFERENT),
    "seed": Setting(_DIFFERENT, same_row=True),
    "data.seed": Setting(_DIFFERENT, same_row=True),
}
"""Dotted name -> its row; ``setting_of`` finds the row of a name below one."""


TRAINED_DATA = "trained_data"
"""Key of an evaluation's configuration: the settings of the data that its network was trained on."""


def is_among(key: str, settings: Collection[str]) -> bool:
    """Return whether a dotted key is one of ``settings`` or below one."""
    return any(key == setting or key.startswith(f"{setting}.") for setting in settings)


def setting_of(key: str) -> Setting:
    """Return the row of a dotted key: its own, or that of the nearest setting above it, or a ``different`` one."""
    while key not in SETTINGS and "." in key:
        key = key.rpartition(".")[0]
    return SETTINGS.get(key, Setting())


EARLY_STOPPING = "callbacks.early_stopping"


def key_of(override: str) -> str:
    """Return the dotted name that an override of a command line changes: ``+data.size=[96,128]`` -> ``data.size``."""
    return override.lstrip("+~").partition("=")[0]


def setting_in(config: Mapping[str, Any], key: str) -> Setting:
    """Return the row of a dotted key of a configuration, in which callbacks of any name may be early stoppings."""
    if is_among(key, (TRAINED_DATA,)):
        key = "data" + key.removeprefix(TRAINED_DATA)
    stopping = [f"callbacks.{name}" for name in early_stoppings(config)]
    return setting_of(EARLY_STOPPING if is_among(key, stopping) else key)


def differing_settings(old: Mapping[str, Any], new: Mapping[str, Any], *effects: Effect) -> dict[str, tuple[Any, Any]]:
    """Return the settings of some effects that differ between two resolved configurations; ``different`` ones by default.

    Returns:
        dotted name -> (old value, new value), None where a configuration has no such setting.
    """
    chosen = effects or (Effect.DIFFERENT,)
    flat = [
        {
            key: value
            for key, value in flatten(config).items()
            if setting_in(config, key).effect in chosen and value != {}
        }
        for config in (old, new)
    ]
    pairs = {key: (flat[0].get(key), flat[1].get(key)) for key in sorted({*flat[0], *flat[1]})}
    return {key: (before, after) for key, (before, after) in pairs.items() if before != after}


def early_stoppings(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the callbacks in a configuration whose class is an early stopping, by the class's name."""
    callbacks = config.get("callbacks")
    return [
        name
        for name, node in (callbacks.items() if isinstance(callbacks, Mapping) else ())
        if isinstance(node, Mapping) and str(node.get("_target_")).endswith("EarlyStopping")
    ]
