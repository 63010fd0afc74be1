"""Configuration files that the jobs of a sweep share: found and parsed once."""

import copy
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

from runner.config.hydra_internals import ConfigRepository


class KeptConfigs(ConfigRepository):
    """Hydra's repository that remembers what it has found.

    Hydra reads some forty files for every job it composes. Files that change while a sweep is
    being composed are not read anew, so that all its jobs are made of the same.
    """

    def __init__(self, like: ConfigRepository) -> None:
        """Look where ``like`` looks."""
        self.sources = like.sources
        self._configs: dict[str, ConfigResult | None] = {}
        self._places: dict[tuple[str, ObjectType | None], ConfigSource | None] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "KeptConfigs":
        """Hydra takes a copy for every job: what has been found is common to all."""
        copied = copy.copy(self)
        memo[id(self)] = copied
        return copied

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look in other places, in this copy: nothing found so far counts."""
        super().initialize_sources(config_search_path)
        self._configs, self._places = {}, {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """One configuration, not to be changed, or ``None`` where there is none."""
        if config_path not in self._configs:
            self._configs[config_path] = super().load_config(config_path)
        return self._configs[config_path]

    def _find_object_source(
        self, config_path: str, object_type: ObjectType | None
    ) -> ConfigSource | None:
        wanted = (config_path, object_type)
        if wanted not in self._places:
            self._places[wanted] = super()._find_object_source(config_path, object_type)
        return self._places[wanted]
