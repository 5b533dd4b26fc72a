import multiprocessing

import pytest
import torch
from helpers.miniature import compose_config, write_miniature

from mtlsi_net.core.errors import UserError
from mtlsi_net.engine.build import build_data, build_tasks


def build(root, workers, *overrides):
    options = (f"data.root={root}", "data.size=[64,64]", f"data.num_workers={workers}", *overrides)
    cfg = compose_config("data=nyud", *options)
    return build_data(cfg, build_tasks(cfg))


def test_workers_come_from_a_server_where_each_would_import_torch_itself(tmp_path, monkeypatch):
    root, preloaded = write_miniature(tmp_path / "data"), []
    data = build(root, workers=1)
    assert data.train_dataloader().multiprocessing_context is None, "Python's default, fork, imports nothing anew"
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    monkeypatch.setattr(multiprocessing, "set_forkserver_preload", preloaded.extend)
    loader = data.train_dataloader()
    assert loader.multiprocessing_context.get_start_method() == "forkserver"
    assert {"mtlsi_net.data.dataset", "mtlsi_net.data.nyud", "mtlsi_net.data.augmentation"} <= set(preloaded)
    batch, same = next(iter(loader)), next(iter(build(root, workers=0).train_dataloader()))
    assert batch["id"] == same["id"]
    assert torch.equal(batch["image"], same["image"])


def test_without_a_server_workers_start_as_python_does(tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    data = build(write_miniature(tmp_path / "data"), workers=1)
    assert data.train_dataloader().multiprocessing_context is None


def test_a_checkpoint_within_a_step_of_another_batch_size_is_refused(tmp_path):
    options = ("data.batch_size=4", "data.micro_batch=1")
    loader = build(write_miniature(tmp_path / "data"), 0, *options).train_dataloader()
    assert loader.parts == 4
    loader.load_state_dict({"samples": 8})
    assert loader.state_dict() == {"samples": 8}
    with pytest.raises(
        UserError, match=r"stands at sample 6, which is no whole number of steps of 4; resume with the batch"
    ):
        loader.load_state_dict({"samples": 6})
