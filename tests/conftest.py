"""Fixtures shared by all tests."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers.trained import Trained

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are small, and other processes test on the other cores

ROOT = Path(__file__).parent.parent

gc.disable()  # until all tests are imported: importing leaves hardly any garbage


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real photographs; skip where it is absent."""
    folder = Path(os.environ.get("MTLSI_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "NYUDv2_mini").is_dir():
        pytest.skip(f"real photographs are not at {folder} (set MTLSI_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Trained"]:
    """Return a trained run that tests read, and never write to; it is trained once for all processes of a test run."""
    from helpers.trained import train_once

    found = train_once(tmp_path_factory)
    before = found.files()
    yield found
    assert found.files() == before, "a test wrote into the shared run; let it train its own"


@pytest.fixture(scope="session", autouse=True)
def _sizes_measured_once() -> Iterator[None]:
    """Let training and evaluation count the operations of equal networks, and try equal encoders, only once."""
    from helpers.measured_once import remember_sizes

    with pytest.MonkeyPatch.context() as patch:
        remember_sizes(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _choices_composed_once() -> Iterator[None]:
    """Let Hydra find the files of the same choices, and merge them, only once; it applies ``key=value`` words each time."""
    from helpers.composed_once import remember_choices

    with pytest.MonkeyPatch.context() as patch:
        remember_choices(patch)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_collection_finish() -> None:
    """Take what the imports left out of garbage collections, which would walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # composing a configuration makes many objects, and hardly any garbage
    gc.enable()


def pytest_sessionfinish() -> None:
    """End the server of commands if a test has started it."""
    if "helpers.commands" in sys.modules:
        sys.modules["helpers.commands"].stop_server()
