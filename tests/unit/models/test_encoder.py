import logging
from types import SimpleNamespace

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from mtlsi_net.core.errors import UserError
from mtlsi_net.models import encoder as module
from mtlsi_net.models.encoder import TimmEncoder

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FAMILIES = {
    "vit_tiny_patch16_224": [16, 16, 16, 16],
    "vit_small_patch14_dinov2": [14, 14, 14, 14],
    "vit_small_patch16_dinov3": [16, 16, 16, 16],
    "swin_tiny_patch4_window7_224": [4, 8, 16, 32],
    "convnext_atto": [4, 8, 16, 32],
    "resnet18": [4, 8, 16, 32],
    "edgenext_xx_small": [4, 8, 16, 32],
    "regnetx_002": [4, 8, 16, 32],
}


def scratch(name, **options):
    return TimmEncoder(name, pretrained=False, **options)


@pytest.mark.parametrize("image_size", [None, (80, 100)])
@pytest.mark.parametrize("name", FAMILIES)
def test_published_maps_are_the_real_ones_at_any_size(name, image_size):
    encoder = scratch(name, image_size=image_size)
    assert [spec.stride for spec in encoder.specs] == FAMILIES[name]
    maps = encoder(torch.rand(1, 3, 75, 101))
    for x, spec in zip(maps, encoder.specs, strict=True):
        assert x.shape == (1, spec.channels, -(-75 // spec.stride), -(-101 // spec.stride))
    sum(x.square().mean() for x in maps).backward()
    assert [key for key, p in encoder.named_parameters() if p.grad is None] == []  # no leftover of the classifier


def test_plain_transformers_give_the_patch_tokens_of_equally_spaced_blocks():
    encoder = scratch("vit_tiny_patch16_224").eval()
    body, image = encoder.body, torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        maps, tokens = encoder(image), body._pos_embed(body.patch_embed(image))
        by_block = []
        for block in body.blocks:
            tokens = block(tokens)
            by_block.append(tokens[:, 1:].mT.reshape(1, -1, 14, 14))
    for x, index in zip(maps, (2, 5, 8, 11), strict=True):
        torch.testing.assert_close(x, by_block[index])


def test_swin_maps_have_channels_first():
    encoder = scratch("swin_tiny_patch4_window7_224").eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        x = encoder.body.patch_embed(image)  # (B, h, w, C)
        for stage in encoder.body.layers:
            x = stage(x)
        torch.testing.assert_close(encoder(image)[-1], x.permute(0, 3, 1, 2))


def test_inner_padding_is_that_of_a_zero_border():
    encoder = scratch("convnext_atto").eval()
    image = torch.randn(1, 3, 60, 90)
    bordered = torch.zeros(1, 3, 64, 96)
    bordered[..., :60, :90] = image
    with torch.no_grad():
        for a, b in zip(encoder(image), encoder(bordered), strict=True):
            torch.testing.assert_close(a, b[..., : a.shape[-2], : a.shape[-1]])


@pytest.mark.parametrize(
    ("name", "statistics", "expected"),
    [
        ("vit_tiny_patch16_384.augreg_in21k_ft_in1k", "auto", IMAGENET),
        ("vit_tiny_patch16_384", "auto", IMAGENET),
        ("vit_tiny_patch16_384", "pretrained_cfg", ((0.5,) * 3, (0.5,) * 3)),
        ("test_vit", "auto", ((0.5,) * 3, (0.5,) * 3)),
        ("test_vit", "imagenet", IMAGENET),
        ("resnet18", "auto", IMAGENET),
    ],
)
def test_input_statistics(name, statistics, expected, caplog):
    with caplog.at_level(logging.INFO):
        encoder = scratch(name, statistics=statistics)
    assert (encoder.mean, encoder.std) == expected
    assert f"statistics={statistics}" in caplog.text


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("vit_tiny_patch16_224", 12), ("swin_tiny_patch4_window7_224", 12), ("convnext_atto", 12), ("resnet18", 8)],
)
def test_every_parameter_has_a_depth(name, blocks):
    encoder = scratch(name)
    depths = encoder.parameter_depths()
    assert set(depths) == {parameter for parameter, _ in encoder.named_parameters()}
    assert set(depths.values()) == set(range(blocks + 1))
    assert encoder.num_layers == blocks


def test_depths_follow_the_blocks():
    depths = scratch("vit_tiny_patch16_224").parameter_depths()
    assert depths["body.pos_embed"] == depths["body.patch_embed.proj.weight"] == 0
    assert depths["body.blocks.0.attn.qkv.weight"] == 1
    assert depths["body.blocks.11.mlp.fc2.bias"] == 12


def test_a_frozen_encoder_stays_in_eval_mode():
    encoder = scratch("resnet18", trainable="none", drop_path_rate=0.1).train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(part.training for part in encoder.body.modules())
    before = encoder.body.bn1.running_mean.clone()
    maps = encoder(torch.rand(2, 3, 64, 64))
    assert torch.equal(before, encoder.body.bn1.running_mean)
    assert not maps[-1].requires_grad


def test_the_last_blocks_alone_can_learn():
    encoder = scratch("resnet18", trainable=2).train()
    learning = {name.split(".")[1] for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning == {"layer4"}
    assert encoder.body.layer4.training
    assert not encoder.body.layer3.training
    assert not encoder.body.bn1.training
    assert all(p.requires_grad for p in scratch("resnet18", trainable="all").parameters())
    assert not any(p.requires_grad for p in scratch("resnet18", trainable=0).parameters())


@pytest.mark.parametrize("trainable", ["some", -1, 10, True])
def test_unknown_ways_to_freeze_are_refused(trainable):
    with pytest.raises(UserError, match="trainable"):
        scratch("resnet18", trainable=trainable)


def test_drop_path_reaches_the_blocks():
    def rates(rate, name="vit_tiny_patch16_224"):
        return [m.drop_prob for m in scratch(name, drop_path_rate=rate).modules() if hasattr(m, "drop_prob")]

    assert rates(0.0) == rates(0.0, "swin_tiny_patch4_window7_224") == []  # timm's own default for Swin is 0.1
    assert max(rates(0.2)) == pytest.approx(0.2)
    with pytest.raises(UserError, match=r"drop_path_rate=1\.5"):
        scratch("resnet18", drop_path_rate=1.5)
    with pytest.raises(UserError, match="no stochastic depth"):
        scratch("hrnet_w18_small", drop_path_rate=0.1)
    assert module._create("hrnet_w18_small", None, 0.0) is not None


# -- weights ---------------------------------------------------------------------------------------------------------


def reference(name="test_vit", **options):
    torch.manual_seed(7)
    return timm.create_model(name, pretrained=False, **options)


def write(path, state):
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


def assert_same_weights(encoder, model):
    own = encoder.body.state_dict()
    assert own
    for key, value in model.state_dict().items():
        if key in own:
            assert torch.equal(own[key], value), key
    assert set(own) <= set(model.state_dict())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("classes", [0, 1000, 7])
def test_a_local_file_loads_whole_whatever_its_classifier(tmp_path, name, suffix, classes):
    model = reference(name, num_classes=classes)
    path = write(tmp_path / f"weights{suffix}", model.state_dict())
    assert_same_weights(TimmEncoder(name, weights_file=path), model)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_files_load(tmp_path, wrapper):
    model = reference()
    path = write(tmp_path / "weights.pth", {wrapper: model.state_dict(), "epoch": 3})
    assert_same_weights(TimmEncoder("test_vit", weights_file=str(path)), model)


def test_position_embeddings_are_resized_on_loading(tmp_path):
    model = reference()
    path = write(tmp_path / "weights.pth", model.state_dict())
    encoder = TimmEncoder("test_vit", weights_file=path, image_size=(64, 96))
    assert encoder.body.pos_embed.shape[1] == 1 + 4 * 6
    assert torch.equal(encoder.body.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("blocks.1.attn.qkv.weight"), "blocks.1.attn.qkv.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "extra.weight"),
        (lambda s: s.update({"norm.weight": torch.zeros(3)}), "norm.weight"),
    ],
)
def test_partly_matching_files_are_refused(tmp_path, spoil, message):
    state = reference().state_dict()
    spoil(state)
    path = write(tmp_path / "weights.pth", state)
    with pytest.raises(UserError, match=f"does not fit test_vit.*{message}"):
        TimmEncoder("test_vit", weights_file=path)


def test_another_networks_file_is_refused(tmp_path):
    path = write(tmp_path / "weights.pth", reference("test_resnet").state_dict())
    with pytest.raises(UserError, match="does not fit test_vit"):
        TimmEncoder("test_vit", weights_file=path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(UserError, match="does not exist"):
        TimmEncoder("test_vit", weights_file=path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="cannot be read"):
        TimmEncoder("test_vit", weights_file=path)


def test_files_without_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="not contain a dictionary of tensors"):
        TimmEncoder("test_vit", weights_file=write(tmp_path / "weights.pth", [torch.zeros(1)]))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": SimpleNamespace(a=1)}, path)
    with pytest.raises(UserError, match="cannot be read"):
        TimmEncoder("test_vit", weights_file=path)


def test_a_failed_download_says_how_to_get_the_weights(monkeypatch):
    def offline(*_args, **_options):
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(module.timm, "create_model", offline)
    with pytest.raises(UserError, match=r"hf download timm/test_vit.r160_in1k .*weights_file=") as caught:
        TimmEncoder("test_vit")
    assert "\n" not in str(caught.value)


def test_a_backbone_without_published_weights_is_no_random_one():
    with pytest.raises(UserError, match="pretrained=false"):
        TimmEncoder("test_vit4")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_38", "did you mean 'vit_tiny_patch16_384'"),
        ("vit_tiny_patch16_384.augreg", "no weights 'vit_tiny_patch16_384.augreg'"),
        ("", "no backbone"),
    ],
)
def test_unknown_backbones_are_refused_with_the_nearest_names(name, message):
    with pytest.raises(UserError, match=message):
        scratch(name)


def test_unknown_statistics_are_refused():
    with pytest.raises(UserError, match="did you mean 'imagenet'"):
        scratch("test_vit", statistics="imagnet")


def test_backbones_without_maps_are_refused():
    with pytest.raises(UserError, match="visformer_tiny does not offer 4 feature maps"):
        scratch("visformer_tiny")
