"""Every ablation and preset of conf/ as a network, and the controls against the stages they replace."""

import copy
from functools import cache
from itertools import cycle
from pathlib import Path

import pytest
import torch
from helpers.miniature import compose_config
from helpers.modules import BASELINES, CHANNELS, MODELS, PatchEncoder, randomise
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.nn import functional as F

from mtlsi_net.cli.entry import user_errors
from mtlsi_net.core.config import check_options
from mtlsi_net.core.errors import UserError
from mtlsi_net.models.ablations import AllPositions, GridTokens, IdentityStage, MatchedConvs, count_parameters
from mtlsi_net.models.encoder import TimmEncoder
from mtlsi_net.models.fusion import MultiScaleQueryFusion

CONF = Path(__file__).parents[3] / "conf"
ABLATIONS = sorted(path.stem for path in (CONF / "ablation").glob("*.yaml"))
NARROW = [name for name in ABLATIONS if not name.startswith("width")]
"""All but those that are ``full`` with another width."""
TOLERANCE = 0.02


def network_of(*overrides, encoder=None, channels=CHANNELS):
    cfg = composed("experiment=rooms_demo", "model.norm=layer", "data.size=[128,160]", *overrides)
    check_options(cfg.model, "model")
    return instantiate(cfg.model, _convert_="all")(encoder=encoder or PatchEncoder(), task_channels=channels)


def on_meta(*overrides, channels=CHANNELS):
    """Return a network whose parameters have shapes only."""
    with torch.device("meta"):
        return network_of(*overrides, encoder=PatchEncoder(), channels=channels)


@cache
def composed(*overrides):
    return compose_config(*overrides)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def ablated(ablation, width=64):
    """Return the network of an ablation on its own, narrow unless its width is what it changes."""
    cfg = copy.deepcopy(composed(f"ablation={ablation}"))
    if "width" not in ablation:
        cfg.model.width = width
    return instantiate(cfg.model, _convert_="all")(encoder=PatchEncoder(), task_channels=CHANNELS)


def step(net, size=(45, 61)):
    valid = torch.ones(2, 1, *size, dtype=torch.bool)
    valid[1, ..., 40:] = False
    prediction = net(torch.rand(2, 3, *size), valid)
    outputs = [y for outputs in (prediction.final, *prediction.aux) for y in outputs.values()]
    sum(y.square().mean() for y in outputs).backward()
    assert all(y.isfinite().all() for y in outputs)
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_runs_and_changes_something(ablation):
    cfg, full = composed(f"ablation={ablation}"), composed()
    assert not OmegaConf.missing_keys(cfg)
    OmegaConf.resolve(copy.deepcopy(cfg))
    check_options(cfg.model, "model")
    same = cfg.model == full.model and cfg.task_weights == full.task_weights
    assert same == (ablation == "full")
    net = ablated(ablation)
    net.check_size((128, 160))
    step(net)


@pytest.mark.parametrize(("tasks", "width"), [(4, 64), (1, 64), (5, 320)])
@pytest.mark.parametrize(
    ("ablation", "stages"),
    [
        ("blocks_101", ["distiller"]),
        ("grid_tokens_convs", ["distiller"]),
        ("blocks_100", ["distiller", "readback", "decoder"]),
        ("local_only_convs", ["distiller", "readback", "decoder"]),
        ("global_only_convs", ["decoder"]),
        ("blocks_010", ["fusion", "decoder"]),
        ("blocks_110", ["decoder"]),
        ("blocks_000", ["fusion", "distiller", "readback", "decoder"]),
        ("blocks_011", ["fusion"]),
        ("blocks_001", ["fusion", "distiller", "decoder"]),
    ],
)
def test_convolution_controls_have_the_parameters_they_replace(ablation, stages, tasks, width):
    channels = dict.fromkeys("abcde"[:tasks], 1)
    full, control = (
        on_meta(f"ablation={name}", f"model.width={width}", channels=channels) for name in ("full", ablation)
    )
    count = [sum(parameters(net.get_submodule(stage)) for stage in stages) for net in (full, control)]
    assert count[1] == pytest.approx(count[0], rel=TOLERANCE)


def test_one_scale_thrice_has_the_parameters_of_three_scales():
    full, single = (on_meta(f"ablation={name}", "model.width=320") for name in ("full", "single_scale_matched"))
    assert parameters(single.fusion) == pytest.approx(parameters(full.fusion), rel=TOLERANCE)  # but at small widths


def test_all_corners_of_the_factorial_are_of_one_size():
    nyud = {"semseg": 40, "depth": 1, "normals": 3, "boundary": 1}
    sizes = [
        parameters(on_meta(f"ablation={'full' if k == 7 else f'blocks_{k:03b}'}", channels=nyud)) for k in range(8)
    ]
    assert max(sizes) < (1 + TOLERANCE) * min(sizes)


def test_ablations_combine():
    cfg = compose_config("ablation=[single_scale,own_context,no_distiller]")
    assert list(cfg.model.fusion.scales) == [1]
    assert cfg.model.fusion.context == "own"
    assert cfg.model.distiller._target_.endswith("AllPositions")


@pytest.mark.parametrize(
    ("model", "ablation"),
    list(zip(BASELINES, cycle(["no_fusion", "blocks_011", "grid_tokens", "local_only", "blocks_101"]), strict=False)),
)
def test_a_stage_that_a_model_lacks_cannot_be_replaced(model, ablation):
    with pytest.raises(ConfigCompositionException, match=r"Could not override 'model/(fusion|distiller|decoder)'"):
        compose_config(f"model={model}", f"ablation={ablation}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=shared_encoder", "ablation=single_scale"],
            "model.fusion is set, but SharedEncoderNet has no 'fusion'",
        ),
        (["model=invpt", "ablation=single_scale"], "model.fusion is set, but InvPTNet has no 'fusion'"),
        (["ablation=[no_fusion,own_context]"], "model.fusion.context is set, but IdentityStage has no 'context'"),
        (["+model.fusion.scale=[1]"], "did you mean 'scales'"),
    ],
)
def test_an_option_that_a_stage_lacks_is_named(overrides, message, capsys):
    with pytest.raises(SystemExit), user_errors():
        network_of(*overrides)
    assert message in capsys.readouterr().err


def test_identity_returns_its_input_and_has_no_parameters():
    x = torch.rand(2, 3, 64, 4, 5)
    stage = IdentityStage(tasks=3, width=64, head_dim=64)
    assert stage(x, None, None) is x
    assert parameters(stage) == 0


def test_matched_convolutions_see_their_task_alone_and_no_padding():
    stage = MatchedConvs(3, 64, 32, MultiScaleQueryFusion).double()
    x = torch.rand(1, 3, 64, 7, 8, dtype=torch.float64, requires_grad=True)
    stage(x, None)[:, 0].sum().backward()
    assert x.grad[:, 1:].abs().max() == 0
    valid = torch.zeros(1, 1, 7, 8, dtype=torch.bool)
    valid[..., :5, :6] = True
    torch.testing.assert_close(stage(x, valid)[..., :5, :6], stage(x[..., :5, :6], None))


def test_a_stage_too_small_to_match_is_refused():
    with pytest.raises(UserError, match="too small at this width"):
        MatchedConvs(3, 64, 32, IdentityStage)


def test_counting_parameters_allocates_none():
    expected = parameters(MultiScaleQueryFusion(3, 64, 32))
    assert count_parameters(MultiScaleQueryFusion, tasks=3, width=64, head_dim=32) == expected


def test_positions_as_tokens_are_the_normalised_features():
    stage, x = randomise(AllPositions(3, 64, 32)), torch.rand(2, 3, 64, 4, 5)
    valid = torch.rand(2, 1, 4, 5) > 0.3
    tokens = stage(x, valid)
    assert tokens.shape == (2, 1, 3 * 4 * 5, 64)
    for t, (scale, shift) in enumerate(zip(stage.norm.weight.flatten(1), stage.norm.bias.flatten(1), strict=True)):
        for k in range(4 * 5):  # row by row
            row, column = divmod(k, 5)
            expected = F.layer_norm(x[:, t, :, row, column], (64,), scale, shift, eps=1e-6)
            torch.testing.assert_close(tokens[:, 0, t * 20 + k], expected * valid[:, :, row, column])


def test_grid_tokens_are_means_over_cells_of_the_valid_part():
    stage, x = GridTokens(3, 64, 32, tokens=4), torch.rand(2, 3, 64, 4, 6)
    assert stage.grid == (2, 2)
    y = stage.norm(x)
    cells = torch.stack([y[..., r : r + 2, c : c + 3].mean((-1, -2)) for r in (0, 2) for c in (0, 3)], 2)
    torch.testing.assert_close(stage(x, None).view(2, 3, 4, 64), cells)
    padded, valid = (F.pad(t, (1, 3, 2, 5)) for t in (x, torch.ones(2, 1, 4, 6, dtype=torch.bool)))
    torch.testing.assert_close(stage(padded, valid).view(2, 3, 4, 64), cells)


@pytest.mark.parametrize("ablation", [name for name in NARROW if name not in ("no_padding_mask", "batch_norm")])
def test_more_padding_changes_nothing_with_any_ablation(ablation):
    net = randomise(ablated(ablation).double()).eval()
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    before = 128 if ablation in ("window_16", "stride_16") else 64  # whole windows: their grid stays in place
    margins = (before, 32, before, 64)  # left, right, top, bottom
    canvas, valid = (F.pad(t, margins) for t in (image, torch.ones(1, 1, 64, 96, dtype=torch.bool)))
    with torch.no_grad():
        alone, padded = net(image), net(canvas, valid)
    for name in CHANNELS:
        found = padded.final[name][..., before : before + 64, before : before + 96]
        torch.testing.assert_close(found, alone.final[name], rtol=1e-4, atol=1e-4)


# -- models ---------------------------------------------------------------------------------------------------------

FAST = ("mtlsi", "invpt", "mlore")
"""Networks that are traced in the fast tests: the default, attention between pixels, and a choice of experts."""


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (model, name)
        for model, pyramid in zip(MODELS, cycle(["test_convnext", "test_resnet", "regnetx_002"]), strict=False)
        for name in ("test_vit", pyramid)
    ],
)
def test_every_model_runs_on_a_plain_backbone_and_on_a_pyramid_at_odd_sizes(model, name):
    net = network_of(f"model={model}", "model.width=64", encoder=TimmEncoder(name, pretrained=False))
    step(net, (101, 77))


@pytest.mark.parametrize("extra", ["fusion.context=mixed", "fusion.exchange=true"])
def test_what_lies_between_tasks_needs_two(extra):
    cfg = compose_config("model.width=64", f"model.{extra}")
    with pytest.raises(UserError, match="one task has no other"):
        instantiate(cfg.model, _convert_="all")(encoder=PatchEncoder(), task_channels={"depth": 1})


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        *(
            pytest.param(model, "eager", marks=[] if model in FAST else pytest.mark.slow)
            for model in MODELS
            if model != "mtlsi"  # it is trained compiled in test_compile.py
        ),
        pytest.param("mtlsi", "inductor", marks=pytest.mark.slow),  # minutes
    ],
)
def test_models_compile_without_graph_breaks(model, backend):
    net = network_of(f"model={model}", "model.width=64").eval()
    image, valid = torch.rand(1, 3, 64, 96), torch.ones(1, 1, 64, 96, dtype=torch.bool)
    torch._dynamo.reset()
    y, expected = torch.compile(net, dynamic=False, fullgraph=True, backend=backend)(image, valid), net(image, valid)
    for name in CHANNELS:
        torch.testing.assert_close(y.final[name], expected.final[name], rtol=1e-3, atol=1e-3)
    y.final["depth"].sum().backward()


@pytest.mark.parametrize(
    "model",
    [pytest.param(model, marks=[] if model in FAST else pytest.mark.slow) for model in MODELS],
)
def test_models_export(model):
    net = network_of(f"model={model}", "model.width=64").eval()
    image, valid = torch.rand(1, 3, 64, 96), torch.ones(1, 1, 64, 96, dtype=torch.bool)
    program = torch.export.export(net, (image, valid))
    torch.testing.assert_close(program.module()(image, valid).final, net(image, valid).final)


@pytest.mark.parametrize("ablation", NARROW)
def test_every_ablation_predicts_the_same_for_fewer_tasks(ablation):
    net = randomise(ablated(ablation)).double().eval()
    image, kept = torch.rand(1, 3, 70, 140, dtype=torch.float64), ["normals"]
    with torch.no_grad():
        whole = net(image).final
        net.keep_tasks(kept)
        cut = net(image).final
    assert list(cut) == kept
    torch.testing.assert_close(cut["normals"], whole["normals"], rtol=1e-6, atol=1e-6)
