"""Configurations that the jobs of a sweep begin with in common: merged once."""

import itertools
from collections.abc import Callable
from typing import Any

from hydra.core.default_element import ResultDefault
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from runner.config.copies import copies
from runner.config.hydra_internals import (
    CachingConfigRepository,
    ConfigLoaderImpl,
    IConfigRepository,
    replace_merging,
)

_MOST_KEPT = 150
"""Merged configurations to keep, of about 100 kB each."""
_MOST_FILES = 500
"""Files to keep as they were read."""


class KeptMerges:
    """Composes defaults lists one after the other, merging once what they begin with in common.

    Of the time that Hydra takes to compose a job most goes into merging some forty
    configurations, of which the jobs of a sweep differ in a few.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        """Put this in the place of the loader's own way."""
        self._kept: dict[tuple[Any, ...], Callable[[], DictConfig]] = {}
        self._files: dict[int, tuple[ConfigResult, Callable[[], ConfigResult]]] = {}
        self._last: tuple[Any, ...] = ()
        self._merge, self._load = replace_merging(loader, self.compose, self._load_one)

    def compose(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        """The configuration that a defaults list makes."""
        sources = tuple((source.provider, source.path) for source in repo.get_sources())
        key = (sources, *map(_described, defaults))
        common = len([*itertools.takewhile(_equal, zip(key, self._last, strict=False))])
        self._last = key
        if common > 1 and key[:common] not in self._kept and len(self._kept) < _MOST_KEPT:
            merged = self._merged(key[:common], defaults[: common - 1], repo)
            self._kept[key[:common]] = copies(merged)
        return self._merged(key, defaults, repo)

    def _merged(
        self, key: tuple[Any, ...], defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        known = max((one for one in self._kept if key[: len(one)] == one), key=len, default=key[:1])
        rest = defaults[len(known) - 1 :]
        if known in self._kept:
            rest = [_Beginning(self._kept[known]), *rest]
        try:
            # One after the other each would set the parents of all nodes anew.
            whole = OmegaConf.create()
            with flag_override(whole, "no_deepcopy_set_nodes", True):
                whole.merge_with(*(self._load_one(one, repo).config for one in rest))
        except OmegaConfBaseException:
            return self._merge(rest, repo)  # says in which file
        return self._merge([_Beginning(lambda: whole)], repo)

    def _load_one(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        if isinstance(default, _Beginning):
            return ConfigResult("", "", default.merged(), {})
        return self._load(default, _Copies(repo, self._files))


class _Copies(CachingConfigRepository):
    """Hands out copies, since Hydra changes what it merges; most it only looks up defaults in."""

    def __init__(
        self,
        of: IConfigRepository,
        known: dict[int, tuple[ConfigResult, Callable[[], ConfigResult]]],
    ) -> None:
        self.delegate = of
        self.cache = {}
        self._known = known

    def load_config(self, config_path: str) -> ConfigResult | None:
        found = self.delegate.load_config(config_path)
        if found is None:
            return None
        if id(found) not in self._known:
            if len(self._known) >= _MOST_FILES:
                self._known.clear()
            self._known[id(found)] = (found, copies(found))
        return self._known[id(found)][1]()


class _Beginning(ResultDefault):
    """Stands for several configurations that have been merged."""

    def __init__(self, merged: Callable[[], DictConfig]) -> None:
        super().__init__()
        self.merged = merged


def _described(default: ResultDefault) -> tuple[Any, ...]:
    return (default.config_path, default.package, default.parent, default.is_self, default.primary)


def _equal(pair: tuple[Any, Any]) -> bool:
    return bool(pair[0] == pair[1])
