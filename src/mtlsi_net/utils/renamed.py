"""Names that have changed, for checkpoints, configurations, run folders and sweeps written before: exact, no patterns."""

from collections.abc import Mapping, Sequence
from typing import Any

TARGETS: Mapping[str, str] = {
    "mtlsi_net.fetching.mirrors.Source": "mtlsi_net.fetching.download.Source",
    "mtlsi_net.models.controls.PartAndConvs": "mtlsi_net.models.controls.PartialDecoderWithConvs",
}
"""``_target_`` of earlier versions -> of this one."""

_MATCHED = {"like": "replaces", "and_like": "also_replaces"}
KEYWORDS: Mapping[str, Mapping[str, str]] = {
    f"mtlsi_net.models.controls.{name}": _MATCHED
    for name in ("MatchedConvs", "MatchedTokens", "PartialDecoderWithConvs")
}
"""Target of this version -> its earlier keyword -> the one of today."""


CHOICES: Mapping[str, Mapping[str, str]] = {
    "ablation": {
        "blocks_111": "full",
        "fusion_convs": "blocks_011",
        "decoder_convs": "blocks_100",
        "distiller_convs": "blocks_101",
    }
}
"""Group -> choice of earlier versions -> of this one."""


def modernize(node: Any) -> Any:  # noqa: ANN401 - any part of a configuration
    """Return a configuration with the names of this version.

    Args:
        node: mappings, lists and plain values, as files hold them; left as it is.
    """
    if isinstance(node, Mapping):
        values = {key: _target(key, modernize(value)) for key, value in node.items()}
        keywords = KEYWORDS.get(str(values.get("_target_")), {})
        return {keywords.get(key, key): value for key, value in values.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [modernize(value) for value in node]
    return node


def _target(key: Any, value: Any) -> Any:  # noqa: ANN401
    return TARGETS.get(value, value) if key in ("_target_", "target") and isinstance(value, str) else value
