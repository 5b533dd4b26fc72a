"""The table of settings that leave a run's result as it is, by dotted name; each includes all settings below it."""

from collections.abc import Collection

RESULT_NEUTRAL = (
    *("paths", "sweep", "ckpt", "logger", "data.root", "data.cache_dir", "data.decoded_dir"),
    *("data.num_workers", "trainer.enable_progress_bar", "trainer.max_time", "max_time", "checkpoint_every"),
    *(f"callbacks.{name}" for name in ("step_seeds", "best_checkpoint", "last_checkpoint", "exponential_average")),
    *(f"callbacks.{name}" for name in ("learning_rate_monitor", "model_summary", "device_stats")),
)
"""Settings of where and how a run is done: a resumed run may have others, and they do not name a sweep's job folders.

Changing this table renames the job folders of existing sweeps that override a changed setting.
"""

SAME_GROUP = (
    *RESULT_NEUTRAL,
    *("seed", "data.seed", "name", "pictures", "non_finite", "activation_checkpointing", "compile"),
    *("data.eval_batch_size", "data.max_train_scores", "trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
    *("trainer.strategy", "trainer.log_every_n_steps"),
)
"""Settings in which the runs of one row of a comparison may differ: neutral ones, seeds, names, scoring, the machine."""


def is_among(key: str, settings: Collection[str]) -> bool:
    """Return whether a dotted key is one of ``settings`` or below one."""
    return any(key == setting or key.startswith(f"{setting}.") for setting in settings)


def affects_results(key: str) -> bool:
    """Return whether a resumed run must have the same value of this setting, and another value is another job."""
    return not is_among(key, RESULT_NEUTRAL)
