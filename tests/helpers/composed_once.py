"""Hydra that remembers what the same choices of groups composed to: finding and merging their files is most of its time."""

import copy

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import DefaultsList, Overrides


def remember_choices(patch: pytest.MonkeyPatch) -> None:
    """Patch Hydra (1.3.8): the files' defaults lists and their merged content are kept by the words that choose groups.

    Words that set values are applied as ever, to a copy. Nothing is kept of folders on the disk, which tests write to, nor
    of compositions that fail.
    """
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
