from types import SimpleNamespace

import lightning as L
import pytest
import torch
from helpers.miniature import compose_config
from helpers.modules import PatchEncoder, without_gradient
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.ranks import ProcessInfo
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.lit import distributed
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
        (["+trainer.accumulate_grad_batches=2"], "data.micro_batch"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        distributed.check_trainer(trainer_config(*overrides))


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


def test_one_process_needs_no_strategy_and_several_look_for_unused_parameters_only_where_told(monkeypatch):
    assert distributed.choose_strategy(trainer_config("trainer=cpu")) == "auto"
    monkeypatch.setattr(distributed, "process_info", lambda: ProcessInfo(0, 2, 0, "torchrun"))
    for unused in (False, True):
        strategy = distributed.choose_strategy(trainer_config("trainer=cpu"), unused)
        assert isinstance(strategy, DDPStrategy)
        assert strategy._ddp_kwargs["find_unused_parameters"] == unused


@pytest.mark.parametrize("model", ["mtlsi_plus", "mlore"])
@pytest.mark.parametrize("aux", [True, False])
def test_parameters_that_no_loss_reaches_are_those_without_a_gradient(model, aux):
    cfg = compose_config(f"model={model}", "backbone=tiny", "data=nyud")
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


def trainer(devices, kind):
    return SimpleNamespace(world_size=devices, strategy=SimpleNamespace(root_device=torch.device(kind)))


def test_synchronised_batch_norm_keeps_what_timm_put_into_its_layers():
    encoder = TimmEncoder("regnetx_002", image_size=SIZE, pretrained=False)
    encoder.train()
    encoder(torch.rand(4, 3, *SIZE))
    encoder.eval()
    image = torch.rand(2, 3, *SIZE)
    before = encoder(image)
    kinds = {type(part) for part in encoder.modules()}
    assert distributed.synchronise_batch_norm(encoder, trainer(1, "cuda"), True) is encoder
    assert distributed.synchronise_batch_norm(encoder, trainer(2, "cuda"), False) is encoder
    assert {type(part) for part in encoder.modules()} == kinds
    with pytest.raises(UserError, match="sync_batchnorm=true needs GPUs"):
        distributed.synchronise_batch_norm(encoder, trainer(2, "cpu"), True)
    names = list(encoder.state_dict())
    converted = distributed.synchronise_batch_norm(encoder, trainer(2, "cuda"), True)
    norms = [part for part in converted.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(part, nn.SyncBatchNorm) for part in norms)
    assert list(converted.state_dict()) == names
    for ours, theirs in zip(converted(image), before, strict=True):
        assert torch.equal(ours, theirs)


def test_a_network_without_batch_norm_needs_none():
    encoder = PatchEncoder()
    assert distributed.synchronise_batch_norm(encoder, trainer(2, "cpu"), True) is encoder
