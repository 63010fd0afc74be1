"""Hydra's configuration source for plug-ins: schemas, and options of trackers."""

from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from runner.util.extensions import Kind, extensions, find

_SCHEMAS = {f"schema/{kind.name}": kind for kind in (Kind.method, Kind.engine)}
_TRACKERS = "tracker"


class PluginSource(ConfigSource):
    """A plug-in is imported when its schema is composed, and not before.

    A tracker has its option ``tracker=NAME`` by being there: all trackers have the same fields.
    """

    @staticmethod
    def scheme() -> str:
        """Of its place on the search path."""
        return "plug-ins"

    def available(self) -> bool:
        """Whether there is such a source."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether it has options of a group."""
        path = config_path.rstrip("/")
        return path in _SCHEMAS or path == _TRACKERS

    def is_config(self, config_path: str) -> bool:
        """Whether it has such an option."""
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return name in _names(group)

    def load_config(self, config_path: str) -> ConfigResult:
        """The content of an option.

        Raises:
            UsageError: The plug-in cannot be imported.
        """
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        if group in _SCHEMAS:
            node: Any = find(_SCHEMAS[group], name).load().config
        else:
            node = {"name": name, "directory": "${store.root}/tracking"}
        return ConfigResult(
            config=OmegaConf.structured(node) if group in _SCHEMAS else OmegaConf.create(node),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": None},
            is_schema_source=False,
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Names of the options of a group."""
        return [] if results_filter is ObjectType.GROUP else _names(config_path.rstrip("/"))


def _names(group: str) -> list[str]:
    kind = _SCHEMAS.get(group, Kind.tracker if group == _TRACKERS else None)
    if kind is None:
        return []
    return [name for name, one in extensions(kind).items() if not one.is_builtin]
