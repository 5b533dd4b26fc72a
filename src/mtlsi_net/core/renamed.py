"""Tables of renamed classes, keywords, metrics and choices: checkpoints, settings and sweeps of earlier versions work."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

TARGETS: Mapping[str, str] = {
    f"mtlsi_net.{old}": f"mtlsi_net.{new}"
    for old, new in {
        "data.room_generation.generate_rooms": "data.rooms.generate.generate_rooms",
        "data.rooms.RoomsDataModule": "data.rooms.datamodule.RoomsDataModule",
        "fetching.mirrors.Source": "data_tools.download.Source",
        "models.controls.AllPositions": "models.ablations.AllPositions",
        "models.controls.GridTokens": "models.ablations.GridTokens",
        "models.controls.IdentityStage": "models.ablations.IdentityStage",
        "models.controls.MatchedConvs": "models.ablations.MatchedConvs",
        "models.controls.MatchedTokens": "models.ablations.MatchedTokens",
        "models.controls.NoTokens": "models.ablations.NoTokens",
        "models.controls.PartAndConvs": "models.ablations.PartialDecoderWithConvs",
        "models.controls.TokenReader": "models.ablations.TokenReader",
        "specs.TargetSpec": "core.types.TargetSpec",
        "utils.hydra_callbacks.CheckRunFolder": "cli.hydra_callbacks.CheckRunFolder",
        "utils.hydra_callbacks.CheckSweep": "cli.hydra_callbacks.CheckSweep",
        "utils.hydra_callbacks.ChooseRunFolder": "cli.hydra_callbacks.ChooseRunFolder",
    }.items()
}
"""``_target_`` of earlier versions -> of this one."""

_MATCHED = {"like": "replaces", "and_like": "also_replaces"}
KEYWORDS: Mapping[str, Mapping[str, str]] = {
    f"mtlsi_net.models.ablations.{name}": _MATCHED
    for name in ("MatchedConvs", "MatchedTokens", "PartialDecoderWithConvs")
}
"""Target of this version -> its earlier keyword -> the one of today."""

ADDED: Mapping[str, Mapping[str, Any]] = {
    "mtlsi_net.models.mtlsi.MTLSINet": {
        "readback": {"_target_": "mtlsi_net.models.readback.NoReadback", "_partial_": True},
        "refinement": {"_target_": "mtlsi_net.models.refinement.NoRefinement", "_partial_": True},
    },
}
"""Target of this version -> keywords that earlier configurations lack, with what they meant."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "ablation": {
        "blocks_111": "full",
        "fusion_convs": "blocks_011",
        "decoder_convs": "blocks_100",
        "distiller_convs": "blocks_101",
    }
}
"""Group -> choice of earlier versions -> of this one."""

METRICS: Mapping[str, str] = {"gain": "skill"}
"""Logged metric of earlier versions, also after a stage as in ``val/gain`` -> of this one."""

_GROUPS = {"tasks": "task_set"}
_SETTINGS = {"keep": "tasks"}
OPTIONS: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("evaluate", "probe", "bench", "score", "verify_data", "download"), _GROUPS),
    **dict.fromkeys(("predict", "export", "demo"), _SETTINGS),
    "train": {**_GROUPS, "trainer.max_time": "max_time"},
}
"""Command -> group or setting of earlier versions, as in ``tasks=rooms`` -> of this one; not the nodes below ``tasks``."""


def modernize(node: Any) -> Any:  # noqa: ANN401 - any part of a configuration
    """Return a configuration with the names of this version.

    Args:
        node: mappings, lists and plain values, as files hold them; left as it is.
    """
    if isinstance(node, Mapping):
        values = {key: _current_value(key, modernize(value)) for key, value in node.items()}
        target = str(values.get("_target_"))
        keywords = KEYWORDS.get(target, {})
        return {**ADDED.get(target, {}), **{keywords.get(key, key): value for key, value in values.items()}}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [modernize(value) for value in node]
    return node


def current_metric(name: str) -> str:
    """Return the name of today of a logged metric, such as ``val/gain``."""
    stage, slash, metric = name.rpartition("/")
    return name if "/" in stage else f"{stage}{slash}{METRICS.get(metric, metric)}"


def current_states(states: Mapping[str, Any]) -> dict[str, Any]:
    """Return the callback states of a checkpoint under the keys of today: Lightning's keys name what is monitored."""

    def current(match: re.Match[str]) -> str:
        return f"'monitor': '{current_metric(match[1])}'"

    return {re.sub("'monitor': '([^']*)'", current, key): state for key, state in states.items()}


def _current_value(key: Any, value: Any) -> Any:  # noqa: ANN401
    if key == "monitor" and isinstance(value, str):
        return current_metric(value)
    return TARGETS.get(value, value) if key in ("_target_", "target") and isinstance(value, str) else value
