"""Tells Hydra where this package keeps its configuration."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class MyDecoderSearchPath(SearchPathPlugin):
    """Adds my_decoder/conf to the search path of every Hydra application."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder."""
        search_path.append("my_decoder", "pkg://my_decoder.conf")
