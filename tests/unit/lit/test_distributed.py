from types import SimpleNamespace

import lightning as L
import pytest
import torch
from helpers.loss_curves import OURS, WIDTHS
from helpers.miniature import compose_config
from helpers.modules import PatchEncoder, without_gradient
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import ProcessInfo
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.lit import distributed
from mtlsi_net.lit.module import MultiTaskModule
from mtlsi_net.models.encoder import TimmEncoder
from mtlsi_net.models.size import unreached_parameters

SIZE = (48, 64)


def trainer_config(*overrides):
    return compose_config("logger=csv", *overrides).trainer


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.strategy=ddp_spawn"], "strategy=ddp_spawn.*ddp only.*trainer=ddp"),
        (["trainer.strategy=fsdp"], "strategy=fsdp"),
        (["+trainer.max_time='00:01:00:00'"], "set max_time instead"),
        (["+trainer.accumulate_grad_batches=2"], "data.micro_batch"),
        (["+trainer.limit_val_batches=0"], "limit_val_batches=0 leaves nothing to score"),
        (["+trainer.limit_val_batches=0.0"], "leaves nothing to score"),
        (["trainer.precision=bf16-true"], "precision=bf16-true: .* set it to bf16-mixed or 32-true"),
        (["trainer.precision=16-true"], "set it to 16-mixed"),
        (["trainer.devices=0"], "devices=0: give at least 1"),
        (["trainer.val_check_interval=0.5"], "val_check_interval=0.5: give a whole number .*check_val_every_n_epoch=1"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        distributed.check_trainer(trainer_config(*overrides))


def test_a_share_of_an_epoch_between_validations_is_accepted_where_epochs_count():
    distributed.check_trainer(trainer_config("trainer.val_check_interval=0.5", "trainer.check_val_every_n_epoch=1"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
@pytest.mark.parametrize("trainer", ["gpu", "ddp"])
def test_a_missing_gpu_is_named(trainer):
    with pytest.raises(UserError, match="torch sees no GPU: set trainer=cpu or trainer=ddp_cpu"):
        distributed.check_trainer(trainer_config(f"trainer={trainer}"))


def test_there_must_be_as_many_processes_as_devices(monkeypatch):
    lone = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    pair = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    distributed.check_processes(lone)
    with pytest.raises(UserError, match=r"2 x 1 = 2 processes, but this one runs alone: use the command"):
        distributed.check_processes(pair)
    monkeypatch.setattr(distributed, "process_info", lambda: ProcessInfo(0, 2, 0, "torchrun"))
    distributed.check_processes(pair)
    with pytest.raises(
        UserError, match=r"torchrun started 2 processes, but trainer.devices and num_nodes make 1 x 1 = 1"
    ):
        distributed.check_processes(lone)


def test_lightning_makes_this_suites_ddp_of_its_name():
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    for strategy in ("ddp", "auto"):
        made = L.Trainer(accelerator="cpu", devices=2, strategy=strategy, **options).strategy
        assert isinstance(made, distributed.MultiTaskDDP)
        assert made._ddp_kwargs["gradient_as_bucket_view"]
    assert not isinstance(L.Trainer(accelerator="cpu", devices=1, **options).strategy, DDPStrategy)


@pytest.mark.parametrize("unused", [False, True])
def test_several_processes_look_for_unused_parameters_only_where_there_are_any(monkeypatch, unused):
    strategy = distributed.MultiTaskDDP(parallel_devices=[torch.device("cpu")] * 2)
    module = MultiTaskModule.__new__(MultiTaskModule)
    strategy._lightning_module = module
    monkeypatch.setattr(distributed, "has_unreached", lambda own, size: own is module and size == SIZE and unused)
    monkeypatch.setattr(DDPStrategy, "setup", lambda self, trainer: None)  # noqa: ARG005
    for fn in (TrainerFn.FITTING, TrainerFn.VALIDATING):
        strategy._ddp_kwargs.pop("find_unused_parameters", None)
        state = SimpleNamespace(state=SimpleNamespace(fn=fn), datamodule=SimpleNamespace(size=SIZE))
        strategy.setup(state)
        assert strategy._ddp_kwargs.get("find_unused_parameters") == (unused if fn == TrainerFn.FITTING else None)


@pytest.mark.parametrize("model", ["mtlsi", "mlore"])
@pytest.mark.parametrize("aux", [True, False])
@pytest.mark.parametrize("recomputed", ["true", "false"])
def test_parameters_that_no_loss_reaches_are_those_without_a_gradient(model, aux, recomputed):
    overrides = [
        "backbone=tiny",
        "backbone.name=test_resnet",
        "data=nyud",
        f"activation_checkpointing={recomputed}",
        *WIDTHS.get(model, OURS),
    ]
    cfg = compose_config(f"model={model}", *overrides)
    tasks = build_tasks(cfg)
    network = build_network(cfg, tasks)
    network.train()
    prediction = network(torch.rand(2, 3, *SIZE))
    outputs = [*prediction.final.values(), *prediction.regularisers.values()]
    outputs += [output for scale in prediction.aux for output in scale.values()] if aux else []
    sum(output.square().sum() for output in outputs).backward()
    found = unreached_parameters(network, SIZE, aux)
    assert found == [name for name, p in network.named_parameters() if p.grad is None]
    assert set(found) <= set(without_gradient(network))
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_a_network_that_cannot_be_looked_into_is_unknown():
    class LooksAtValues(nn.Linear):
        def forward(self, image):
            return super().forward(image[..., : int(image.sum())])

    assert unreached_parameters(LooksAtValues(1, 1), SIZE, True) is None


class Wrapped(L.LightningModule):
    """A network as the strategy gets it, in a run of ``devices`` processes."""

    def __init__(self, network, devices, kind):
        super().__init__()
        self.network = network
        self._trainer = SimpleNamespace(
            world_size=devices, strategy=SimpleNamespace(root_device=torch.device(kind)), barebones=False
        )


def synchronised(network, devices, kind):
    return distributed.SyncBatchNorm().apply(Wrapped(network, devices, kind)).network


def test_synchronised_batch_norm_keeps_what_timm_put_into_its_layers():
    encoder = TimmEncoder("regnetx_002", image_size=SIZE, pretrained=False)
    encoder.train()
    encoder(torch.rand(4, 3, *SIZE))
    encoder.eval()
    image = torch.rand(2, 3, *SIZE)
    before = encoder(image)
    kinds = {type(part) for part in encoder.modules()}
    assert synchronised(encoder, 1, "cuda") is encoder
    assert {type(part) for part in encoder.modules()} == kinds
    with pytest.raises(UserError, match="sync_batchnorm=true needs GPUs"):
        synchronised(encoder, 2, "cpu")
    names = list(encoder.state_dict())
    converted = synchronised(encoder, 2, "cuda")
    norms = [part for part in converted.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(part, nn.SyncBatchNorm) for part in norms)
    assert list(converted.state_dict()) == names
    for ours, theirs in zip(converted(image), before, strict=True):
        assert torch.equal(ours, theirs)
    assert distributed.SyncBatchNorm().revert(converted) is converted


def test_recomputed_batches_are_counted_once_after_the_conversion_too():
    overrides = (
        "model.width=32",
        "model.head_dim=32",
        "model.norm=batch",
        "backbone=resnet18",
        "backbone.pretrained=false",
    )
    cfg = compose_config("data=nyud", "model=mtlsi", *overrides, "activation_checkpointing=true")
    network = synchronised(build_network(cfg, build_tasks(cfg)), 2, "cuda")  # runs as plain batch norm without a group
    prediction = network.train()(torch.rand(2, 3, *SIZE))
    sum(y.square().mean() for outputs in (prediction.final, *prediction.aux) for y in outputs.values()).backward()
    norms = [part for part in network.modules() if isinstance(part, nn.SyncBatchNorm)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}


def test_a_network_without_batch_norm_needs_none():
    encoder = PatchEncoder()
    assert synchronised(encoder, 2, "cpu") is encoder


def test_lightning_takes_the_conversion_with_its_own_switch():
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    made = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        sync_batchnorm=True,
        plugins=[distributed.SyncBatchNorm()],
        **options,
    )
    assert isinstance(made.strategy._layer_sync, distributed.SyncBatchNorm)
