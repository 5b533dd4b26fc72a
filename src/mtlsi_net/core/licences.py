"""Under which terms a trained network may be used: they follow from its backbone's weights and from its data."""

from collections.abc import Mapping
from typing import Any

from mtlsi_net.core.config import find_object
from mtlsi_net.core.timm_library import timm

UNSTATED = "not stated"


def licences_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return ``backbone`` (timm's record of the weights) and ``data`` (its module's) -> terms, of a resolved configuration."""
    terms = {}
    backbone = config.get("backbone") or {}
    if "name" in backbone:
        terms["backbone"] = f"{backbone['name']}: {_of_backbone(backbone)}"
    data = config.get("data") or {}
    if "_target_" in data:
        terms["data"] = str(getattr(find_object(str(data["_target_"])), "terms", UNSTATED))
    return terms


def _of_backbone(backbone: Mapping[str, Any]) -> str:
    if backbone.get("weights_file"):
        return f"{UNSTATED} (weights from a file)"
    if not backbone.get("pretrained", True):
        return "trained from scratch"
    try:
        cfg = timm.get_pretrained_cfg(str(backbone["name"]))
    except RuntimeError:
        return UNSTATED
    return str((cfg and cfg.license) or UNSTATED)


def in_words(licences: Mapping[str, str]) -> str:
    """Return the terms in one line."""
    return "; ".join(f"{part}: {terms}" for part, terms in licences.items()) or UNSTATED
