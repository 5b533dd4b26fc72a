"""The probe on trained miniatures, and its measures against direct computation."""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.miniature import compose_config, short_overrides, write_miniature
from PIL import Image
from scipy.ndimage import distance_transform_edt

from mtlsi_net.analysis import interventions, probe
from mtlsi_net.core.errors import UserError
from mtlsi_net.data.transforms import TestPipeline
from mtlsi_net.engine.build import build_network
from mtlsi_net.engine.evaluate import restore
from mtlsi_net.engine.train import train
from mtlsi_net.engine.trainer import build_module
from mtlsi_net.models.fusion import MultiScaleQueryFusion
from mtlsi_net.models.recorder import hooked

TASKS = ["semseg", "depth", "normals", "boundary"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("data"), train=4, val=4)


def trained(data, folder, *overrides):
    short = [o for o in short_overrides(data, folder) if "head_dim" not in o or "model=shared_encoder" not in overrides]
    train(compose_config(*short, *overrides))
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def checkpoint(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = ("model.fusion.exchange=true", "task_weights.aux=1", f"data.decoded_dir={folder}/decoded")
    return trained(data, folder, *options)


def probe_config(checkpoint, folder, *overrides):
    settings = ["images=4", "gradient_images=4", "data.eval_batch_size=2", "data.num_workers=0", *overrides]
    return compose_config(f"ckpt={checkpoint}", f"paths.run_dir={folder}", *settings, name="probe")


@pytest.fixture(scope="module")
def restored(checkpoint, tmp_path_factory):
    found = restore(probe_config(checkpoint, tmp_path_factory.mktemp("restored")))
    found.module.eval()
    return found


def test_a_restored_run_is_not_augmented_and_loads_no_transforms(restored):
    assert isinstance(restored.data.datasets["train"].pipeline, TestPipeline)


def test_the_folder_of_decoded_files_is_that_of_the_machine_that_trained(checkpoint, restored, tmp_path):
    assert list((checkpoint.parents[1] / "decoded" / "depth").iterdir())
    assert restored.data.decoded.folder is None
    own = restore(probe_config(checkpoint, tmp_path / "probe", f"data.decoded_dir={tmp_path}/own"))
    assert own.data.decoded.folder == tmp_path / "own"


def test_everything_is_measured_written_and_drawn(checkpoint, tmp_path):
    found = probe.probe(probe_config(checkpoint, tmp_path))
    assert json.loads((tmp_path / "probe.json").read_text())["images"] == 4
    assert found["skipped"] == {}
    for key in ("context_influence", "tokens_influence", "gradient_cosines"):
        rows = list(csv.reader((tmp_path / f"{key}.csv").open()))
        assert [rows[0], [row[0] for row in rows]] == [["", *TASKS], ["", *TASKS]]
        assert found[key].keys() == set(TASKS)
    assert set(found["transplants"]) == {"context of another image", "tokens of another image"}
    for name in ("tasks", "gate", "tokens"):
        assert Image.open(tmp_path / "pictures" / f"{name}.png").width > 300
    assert all(0 < share < 1 for row in found["gate_by_distance"].values() for share in row if share == share)
    assert all(found["gradient_cosines"][t][t] == pytest.approx(1, abs=1e-4) for t in TASKS)


def test_parts_that_a_network_lacks_are_named_not_measured(data, tmp_path, caplog):
    caplog.set_level("INFO")
    checkpoint = trained(data, tmp_path / "run", "model=shared_encoder", "~tasks.boundary")
    found = probe.probe(probe_config(checkpoint, tmp_path / "probe"))
    parts = {"context influence", "token influence", "context transplant", "token transplant", "tokens", "gate"}
    assert set(found["skipped"]) == parts
    picture = tmp_path / "probe" / "pictures" / "tasks.png"
    assert picture.is_file()
    assert caplog.messages[-1].endswith(f"results are in {tmp_path / 'probe'}: open {picture}")
    assert found["transplants"] == {}
    assert set(found["gradient_norms"]) == {"semseg", "depth", "normals"}


def test_one_image_a_batch_is_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match="set it to 2 or more"):
        probe.probe(probe_config(checkpoint, tmp_path, "data.eval_batch_size=1"))


def first_features(restored):
    """Return the fusion's and the distiller's outputs for two images."""
    seen = {}
    network = restored.module.network
    handles = [
        network.get_submodule(name).register_forward_hook(lambda _m, _a, y, name=name: seen.setdefault(name, y))
        for name in ("fusion", "distiller", "decoder")
    ]
    batch = probe._batches(restored, "val", 2)[0]
    with torch.no_grad():
        restored.module(batch["image"], batch["valid"])
    for handle in handles:
        handle.remove()
    return seen, batch


def under(restored, intervention):
    with hooked(restored.module.network, intervention):
        return first_features(restored)[0]


def test_a_dropped_task_leaves_the_context_as_if_it_had_no_keys(restored):
    attention = restored.module.network.fusion.blocks[0].attention
    x = torch.randn(2, 4, 32, 6, 8)
    k, v = attention.keys_values(x)
    k = k.clamp(min=0)
    with hooked(restored.module.network, interventions.drop_from_context(1)):
        found = attention.attend(attention.queries(x, None), k, v, None)
    k = k.clone()
    k[:, 1] = 0
    torch.testing.assert_close(found, attention.attend(attention.queries(x, None), k, v, None), rtol=1e-4, atol=1e-5)


def test_dropped_tokens_are_gone(restored):
    before, _ = first_features(restored)
    after = under(restored, interventions.drop_from_tokens(0, 4))
    assert after["distiller"].shape[2] == before["distiller"].shape[2] * 3 // 4
    assert not torch.equal(after["decoder"], before["decoder"])
    assert torch.equal(after["fusion"], before["fusion"])
    assert torch.equal(first_features(restored)[0]["decoder"], before["decoder"])  # no hook stays


def test_transplants_exchange_the_images_of_a_batch(restored):
    before, _ = first_features(restored)
    tokens = under(restored, interventions.tokens_of_another_image)["distiller"]
    torch.testing.assert_close(tokens, before["distiller"].flip(0))
    assert not torch.equal(under(restored, interventions.context_of_another_image)["fusion"], before["fusion"])


def test_a_network_that_ignores_its_tokens_is_found_out(restored):
    network = restored.module.network
    batches = probe._batches(restored, "val", 4)
    intact = probe.score(restored.module, batches)
    assert probe.score(restored.module, batches, interventions.tokens_of_another_image) != intact
    kept = {name: p.detach().clone() for name, p in network.named_parameters()}
    torch.nn.init.zeros_(network.readback.read.key_value.weight)
    for block in network.decoder.blocks:
        torch.nn.init.zeros_(block.wide.key_value.weight)
        block.gate.weigh.weight.data[..., 32:] = 0
    effect = probe.score(restored.module, batches, interventions.tokens_of_another_image)
    assert effect == probe.score(restored.module, batches)
    network.load_state_dict(kept, strict=False)


def test_harm_is_positive_where_a_score_got_worse(restored):
    before = {t: {task.main_metric: 0.5} for t, task in restored.module.tasks.items()}
    after = {t: {task.main_metric: 0.4} for t, task in restored.module.tasks.items()}
    found = probe.harm(restored.module, before, after)
    assert found == {
        "semseg": pytest.approx(0.2),
        "depth": pytest.approx(-0.2),
        "normals": pytest.approx(-0.2),
        "boundary": pytest.approx(0.2),
    }


def test_gradient_cosines_are_those_of_separate_backward_passes(restored):
    module, batches = restored.module, probe._batches(restored, "train_scored", 2)
    cosines, norms = probe.gradient_cosines(module, batches)
    rows = []
    for name in TASKS:
        module.zero_grad()
        final, aux = module.losses(module(batches[0]["image"], batches[0]["valid"]), batches[0]["targets"])
        (module.config["task_weights"]["weights"][name] * (final[name] + aux[name])).backward()
        grads = [p.grad for p in module.network.encoder.parameters()]
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for g, p in zip(grads, module.network.encoder.parameters(), strict=True)
                ]
            )
        )
    module.zero_grad()
    expected = torch.nn.functional.cosine_similarity(rows[0], rows[2], dim=0)
    assert cosines[0, 2] == pytest.approx(expected.item(), abs=1e-4)
    assert norms == pytest.approx([row.norm().item() for row in rows], rel=1e-4)


def test_tasks_with_encoders_of_their_own_have_nothing_in_common(restored, data, tmp_path):
    cfg = compose_config(*(o for o in short_overrides(data, tmp_path) if "head_dim" not in o), "model=single_task")
    network, priors = build_network(cfg, restored.tasks), restored.module.priors
    network.set_priors(priors)
    module = build_module(cfg, network, restored.tasks, priors=priors, config={})
    cosines, norms = probe.gradient_cosines(module, probe._batches(restored, "train_scored", 2))
    assert cosines == pytest.approx(np.eye(len(norms)), abs=1e-4)


def test_distance_to_a_boundary_is_euclidean_and_averaged_over_cells(restored):
    _, batch = first_features(restored)
    height, width = batch["image"].shape[-2:]
    distance, real = probe.distance_to_boundary(batch, "boundary", (8, 8), 8)
    exact = distance_transform_edt(batch["targets"]["boundary"][0, 0].numpy() != 1)
    expected = exact.reshape(height // 8, 8, width // 8, 8).mean((1, 3))
    assert np.abs(distance[0, :6] - expected).max() < 0.05 * expected.max() + 0.1
    assert real[:, :6].all()
    assert not real[:, 6:].any()  # 48 rows of a canvas of 64


def test_the_gate_is_averaged_by_distance(restored, monkeypatch):
    def weights(_, local, __):  # the local branch's share is the row of the position, over 10
        row = torch.arange(local.shape[2], dtype=torch.float32).view(1, 1, -1, 1, 1)
        return (row / 10).expand(local.shape)

    monkeypatch.setattr(probe.Gate, "weights", weights)
    batches = probe._batches(restored, "val", 2)
    found = probe.gate_by_distance(restored.module, batches, "boundary")
    distance, real = probe.distance_to_boundary(batches[0], "boundary", (16, 16), 4)
    rows = np.broadcast_to(np.arange(16)[None, :, None] / 10, distance.shape)
    for k, (low, high) in enumerate(zip((0, *probe.DISTANCES), (*probe.DISTANCES, np.inf), strict=True)):
        inside = real & (distance >= low) & (distance < high)
        for values in found.values():
            assert values[k] == pytest.approx(rows[inside].mean() if inside.any() else np.nan, nan_ok=True)


def test_token_statistics_are_those_of_the_assignment(restored):
    found = probe.token_statistics(restored.module, probe._batches(restored, "val", 2))
    distiller = restored.module.network.distiller
    seen, _ = first_features(restored)
    valid = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    valid[:, :, :6] = True  # 48x64 images on a canvas of 64x64
    assignment = distiller.assignment(distiller.norm(seen["fusion"]), valid)
    entropy = -(assignment * assignment.clamp(min=1e-30).log()).sum(-1)
    assert found["positions"]["depth"] == pytest.approx(entropy.exp()[:, 1].mean().item(), rel=1e-4)
    tokens = seen["distiller"].unflatten(2, (4, -1))[:, 0, 1]
    pairs = torch.nn.functional.cosine_similarity(tokens[:, :, None], tokens[:, None], dim=-1)
    off = pairs[:, ~torch.eye(pairs.shape[1], dtype=torch.bool)]
    assert found["cosine"]["depth"] == pytest.approx(off.mean().item(), abs=1e-4)
    assert found["positions_of_image"] == 48


def test_softmax_attention_has_no_context_to_take_away():
    linear, softmax = (MultiScaleQueryFusion(4, 64, 32, attention=kind) for kind in ("linear", "softmax"))
    assert len(interventions.contexts_of(linear)) == 1
    assert (
        interventions.contexts_of(softmax) == []
    )  # hooks there would never be called, and report that nothing changes
    assert not interventions.shares_context(softmax)


def test_a_batch_without_a_tasks_labels_has_no_say_in_its_cosines(restored):
    batches = probe._batches(restored, "train_scored", 4)
    expected, norms = probe.gradient_cosines(restored.module, batches[:1])
    unlabelled = {**batches[1]["targets"], "depth": torch.full_like(batches[1]["targets"]["depth"], 255)}
    cosines, with_empty = probe.gradient_cosines(restored.module, [batches[0], {**batches[1], "targets": unlabelled}])
    depth = TASKS.index("depth")
    assert cosines[depth] == pytest.approx(expected[depth], abs=1e-4)
    assert with_empty[depth] == pytest.approx(norms[depth], rel=1e-4)
