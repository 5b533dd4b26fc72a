import pytest
import torch

from mtlsi_net.core.resolvers import choose_precision


@pytest.mark.parametrize(
    ("gpu", "bfloat16", "accelerator", "expected"),
    [
        (True, True, "auto", "bf16-mixed"),
        (True, True, "gpu", "bf16-mixed"),
        (True, True, "cpu", "32-true"),
        (True, False, "gpu", "32-true"),
        (False, False, "auto", "32-true"),
    ],
)
def test_bfloat16_is_taken_where_a_gpu_computes_in_it(monkeypatch, gpu, bfloat16, accelerator, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16 and not including_emulation
    )
    assert choose_precision("auto", accelerator) == expected
    assert choose_precision("16-mixed", accelerator) == "16-mixed"
