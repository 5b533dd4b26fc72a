import pickle
import sys

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from mtlsi_net.cli.entry import user_errors
from mtlsi_net.core.config import instantiate_node
from mtlsi_net.core.errors import InputError, UserError, choose

FUSION = {"_target_": "mtlsi_net.models.fusion.MultiScaleQueryFusion", "_partial_": True}


def printed(capsys):
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line.removeprefix("error: ").strip()


def test_a_wrong_argument_is_a_value_error_with_name_value_and_remedy():
    with pytest.raises(ValueError, match="phi=rellu is not known; did you mean 'relu'") as caught:
        choose("phi", "rellu", {"relu": 1, "elu1": 2})
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), InputError)


def test_errors_of_a_node_begin_with_its_key():
    cfg = OmegaConf.create(
        {"tasks": {"edges": {"_target_": "mtlsi_net.tasks.boundary.BoundaryTask", "positive_weight": 2}}}
    )
    with pytest.raises(UserError, match=r"^tasks\.edges: positive_weight=2; give a number") as caught:
        instantiate_node(cfg, "tasks")
    assert not isinstance(caught.value, ValueError)  # named once is enough


def test_errors_of_a_factory_begin_with_its_own_key_when_it_is_called_later():
    cfg = OmegaConf.create(
        {"model": {"_target_": "builtins.dict", "_partial_": True, "fusion": {**FUSION, "phi": "rellu"}}}
    )
    fusion = instantiate_node(cfg, "model")()["fusion"]
    with pytest.raises(UserError, match=r"^model\.fusion: phi=rellu is not known; did you mean 'relu'"):
        fusion(tasks=3, width=64, head_dim=32)
    with pytest.raises(TypeError, match="head_dim"):  # a mistake of the code is no input
        fusion(tasks=3, width=64)


def test_errors_of_other_libraries_classes_are_one_line_and_can_be_seen_whole(monkeypatch):
    cfg = OmegaConf.create({"data": {"root": {"_target_": "fractions.Fraction", "_args_": ["one half"]}}})
    with pytest.raises(UserError, match=r"^data\.root: Invalid literal .*one half.*ValueError; HYDRA_FULL_ERROR=1"):
        instantiate_node(cfg, "data")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(InstantiationException):
        instantiate_node(cfg, "data")


def test_other_errors_in_a_constructor_keep_their_traceback():
    cfg = OmegaConf.create({"a": {"_target_": "operator.truediv", "_args_": [1, 0]}})
    with pytest.raises(InstantiationException):
        instantiate_node(cfg, "a")


class Damaged:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError("labels hold class 9")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_entry_prints_the_message_alone_wherever_it_was_raised(capsys, workers):
    with pytest.raises(SystemExit) as ended, user_errors():
        list(DataLoader(Damaged(), num_workers=workers))
    assert ended.value.code == 2
    assert printed(capsys) == "labels hold class 9"


def test_the_entry_leaves_what_is_no_input_alone():
    with pytest.raises(ValueError, match="a bug"), user_errors():
        raise ValueError("a bug")


def test_errors_know_no_ranks():
    import subprocess

    code = "import sys, mtlsi_net.core.errors; print([name for name in sys.modules if name.startswith('mtlsi_net')])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "['mtlsi_net', 'mtlsi_net.core', 'mtlsi_net.core.errors']"
