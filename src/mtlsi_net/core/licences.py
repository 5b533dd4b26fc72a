"""Licence terms of a trained network, from its backbone's weights and its training data."""

from collections.abc import Mapping
from typing import Any

from mtlsi_net.core.config import find_object
from mtlsi_net.core.timm_library import timm

UNSTATED = "not stated"


def licences_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the terms of the ``backbone`` (from timm) and the ``data`` (from its data module) of a resolved configuration."""
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
    terms = str((cfg and cfg.license) or UNSTATED)
    package = backbone.get("weights_package")
    return f"{terms} (weights from the package {package})" if package else terms


def in_words(licences: Mapping[str, str]) -> str:
    """Return the terms in one line."""
    return "; ".join(f"{part}: {terms}" for part, terms in licences.items()) or UNSTATED
