"""Under which terms a trained network may be used: they follow from its backbone's weights and from its data."""

import logging
from collections.abc import Mapping
from typing import Any

import timm
from hydra.utils import get_object

from mtlsi_net.utils.logs import quiet

UNSTATED = "not stated"


def licences_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return ``backbone`` and ``data`` -> terms, from a run's resolved configuration.

    The backbone's is timm's record of the weights that training started from; the data's is its data module's ``terms``.
    """
    terms = {}
    backbone = config.get("backbone") or {}
    if "name" in backbone:
        terms["backbone"] = f"{backbone['name']}: {_of_backbone(backbone)}"
    data = config.get("data") or {}
    if "_target_" in data:
        terms["data"] = _of_data(str(data["_target_"]))
    return terms


def _of_data(target: str) -> str:
    try:
        with quiet("hydra.utils", logging.CRITICAL):
            return str(getattr(get_object(target), "terms", UNSTATED))
    except (ImportError, AttributeError, ValueError):
        return UNSTATED


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
