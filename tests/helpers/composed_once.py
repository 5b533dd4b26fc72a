"""Hydra that remembers what the same choices of groups composed to: finding and merging their files is most of its time."""

import copy
import os
from typing import IO, Any

import pytest
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides
from omegaconf import OmegaConf


def remember_choices(patch: pytest.MonkeyPatch) -> None:
    """Patch Hydra (1.3.8): the files' defaults lists and their merged content are kept by the words that choose groups.

    Words that set values are applied as ever, to a copy. Nothing is kept of folders on the disk, which tests write to, nor
    of compositions that fail. What is new to it costs a third less, too: each file is parsed once, and the names in a list
    of defaults are looked up only if it refers to them.
    """
    _remember_lists(patch)
    _remember_files(patch)
    look_up = defaults_list._create_interpolation_map
    none = OmegaConf.create({})

    def create_interpolation_map(overrides, defaults, self_added):
        refers = any("${" in str(getattr(entry, "value", None) or getattr(entry, "path", "")) for entry in defaults)
        return look_up(overrides, defaults, self_added) if refers else none

    patch.setattr(defaults_list, "_create_interpolation_map", create_interpolation_map)


def _remember_lists(patch: pytest.MonkeyPatch) -> None:
    find, merge = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
    lists: dict[tuple[object, ...], DefaultsList] = {}
    configs: dict[int, object] = {}

    def create_defaults_list(repo, config_name, overrides_list, prepend_hydra, skip_missing):
        places = tuple(source.full_path() for source in repo.get_sources())
        if any(place.startswith("file:") for place in places):
            return find(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        words = tuple(word.input_line for word in overrides_list if not any(word is value for value in values))
        key = (places, config_name, words, prepend_hydra, skip_missing)
        if key not in lists:
            lists[key] = find(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        known = lists[key]
        return DefaultsList(known.defaults, known.defaults_tree, values, known.overrides)

    def compose(self, defaults, repo):
        if not any(known.defaults is defaults for known in lists.values()):
            return merge(self, defaults, repo)
        if id(defaults) not in configs:
            configs[id(defaults)] = merge(self, defaults, repo)
        return copy.deepcopy(configs[id(defaults)])

    patch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", compose)


def _remember_files(patch: pytest.MonkeyPatch) -> None:
    load = OmegaConf.load
    files: dict[tuple[int, ...], Any] = {}

    def load_once(file: str | IO[Any]) -> Any:
        if not hasattr(file, "fileno"):
            return load(file)
        state = os.fstat(file.fileno())
        key = (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)
        if key not in files:
            files[key] = load(file)
        return copy.deepcopy(files[key])

    patch.setattr(OmegaConf, "load", staticmethod(load_once))
