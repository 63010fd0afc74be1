"""All uses of Hydra's private interfaces, in one place, with the reason for each.

Hydra is pinned to 1.3 in ``pyproject.toml``, of which no release changes these. A newer one breaks
here, and ``tests/unit/test_sweeper.py`` says where results differ from Hydra's own.

Speed of composing 48 runs that differ in method, bits and a field, on two cores
(``python -m benchmarks composition``):

| | ms per run |
|---|---|
| Hydra as it is | 233 to 239 |
| choices collected only where a defaults list refers to them | 184 to 201 |
| and a repository and a loader that read and merge once what runs share | 50 to 53 |
| the same runs once more | 33 |

Since then what is shared is copied from a pickle and merged in one go: the last row takes 0.62 of
its processor time (85 ms and 53 on a busy machine, 2026-11-28).

The rest has no public counterpart:

- ``BasicLauncher`` and ``BasicSweeper`` are what the public ``Launcher`` and ``Sweeper`` leave
  open: running a job in this process, and splitting choices into jobs. Ours extend them.
- ``FileConfigSource`` and ``SourcesRegistry``: a mistake in a user's file is reported with the file
  and the line, which takes reading it ourselves. The registry keeps the first class of a scheme.
- ``get_args_parser``: Hydra's flags, to tell them from overrides before Hydra sees either.
- ``get_mode``: Hydra composes every request once to learn whether it is a sweep, and once more.
- ``save_config``: what Hydra files of a request in ``.hydra`` is masked before it is written.
- ``_validate_and_convert_impl`` of OmegaConf's numbers: whatever sets a field, be it a word, a file
  or an axis of a sweep, comes through it, so that ``30ms`` is read in one place.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import (
    CachingConfigRepository,
    ConfigRepository,
    IConfigRepository,
)
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import get_args_parser
from hydra.core import utils
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, FloatNode, IntegerNode

if TYPE_CHECKING:
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

__all__ = [
    "BasicLauncher", "BasicSweeper", "CachingConfigRepository", "ConfigLoaderImpl",
    "ConfigRepository", "FileConfigSource", "IConfigRepository", "collect_choices_where_needed",
    "compose_once", "get_args_parser", "header_of", "read_numbers_by", "replace_file_source",
    "replace_merging", "replace_saving",
]  # fmt: skip

Merge = Callable[[list[ResultDefault], IConfigRepository], DictConfig]
Load = Callable[[ResultDefault, IConfigRepository], ConfigResult]


def __getattr__(name: str) -> Any:
    """Hydra's plug-ins: when it looks for plug-ins it makes these classes anew.

    A subclass of one that was imported before is then none of what Hydra takes it for.
    """
    if name == "BasicLauncher":
        from hydra._internal.core_plugins.basic_launcher import BasicLauncher

        return BasicLauncher
    if name == "BasicSweeper":
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        return BasicSweeper
    raise AttributeError(name)


def replace_file_source(source: type[ConfigSource]) -> None:
    """Have Hydra read folders by ``source`` in the place of its own class of that scheme."""
    SourcesRegistry.instance().types[source.scheme()] = source


def replace_saving(save: Callable[[DictConfig, str, Any], None]) -> None:
    """Have Hydra file requests by ``save(config, file name, folder)``."""
    patched: Any = utils
    patched._save_config = save


def read_numbers_by(read: Callable[[str, str], float | int | None]) -> None:
    """Have the texts that number fields are given read by ``read(field's name, text)``.

    What it has no number for stays OmegaConf's to read, or to refuse.
    """
    for node in (FloatNode, IntegerNode):
        _read_by(node, read)


def _read_by(node: type, read: Callable[[str, str], float | int | None]) -> None:
    patched: Any = node
    own = patched._validate_and_convert_impl

    def convert(self: Any, value: Any) -> Any:
        number = read(str(self._key()), value) if isinstance(value, str) else None
        return own(self, value if number is None else number)

    patched._validate_and_convert_impl = convert


def replace_merging(loader: ConfigLoaderImpl, merge: Merge, load: Load) -> tuple[Merge, Load]:
    """Have a loader merge a defaults list, and load one entry of it, by these functions.

    Returns:
        What it did both by.
    """
    patched: Any = loader
    own_merge: Any = patched._compose_config_from_defaults_list
    own_load: Any = patched._load_single_config
    patched._compose_config_from_defaults_list = merge
    patched._load_single_config = load
    return (
        lambda defaults, repo: own_merge(defaults=defaults, repo=repo),
        lambda default, repo: own_load(default=default, repo=repo),
    )


def collect_choices_where_needed() -> None:
    """Have Hydra collect what was chosen so far only for defaults lists that refer to it.

    It does so for each of the forty files of a configuration, which takes two fifths of the time,
    and looks at it in none but those with a ``${…}`` in their defaults list.
    """
    patched: Any = defaults_list
    own = patched._create_interpolation_map

    def collect(overrides: Any, entries: list[InputDefault], self_added: bool) -> Any:
        if any(entry.is_interpolation() for entry in entries):
            return own(overrides, entries, self_added)
        return None

    patched._create_interpolation_map = collect


def compose_once() -> None:
    """Have Hydra carry out what it composes to learn whether a request is one run or a sweep."""
    patched: Any = Hydra

    def get_mode(self: Any, config_name: str | None, overrides: list[str]) -> Any:
        loader, given = self.config_loader, [*overrides]
        try:
            words = OverridesParser.create().parse_overrides(given)
            is_sweep = any(one.is_sweep_override() for one in words)
            kind = RunMode.MULTIRUN if is_sweep else RunMode.RUN
            composed = loader.load_configuration(config_name, given, kind)
        except Exception:  # Hydra tells of mistakes when it composes what is to be carried out
            return None
        first, word = (config_name, given, kind), f"hydra.mode={kind.name}"

        def load(
            config_name: str | None, overrides: list[str], run_mode: RunMode, **how: Any
        ) -> Any:
            del loader.load_configuration
            own, added = overrides[: len(given)], overrides[len(given) :]
            if (config_name, own, run_mode) != first or added not in ([], [word]):
                return loader.load_configuration(config_name, overrides, run_mode, **how)
            if added:
                composed.hydra.mode = kind
                composed.hydra.overrides.hydra.append(word)
            return composed

        loader.load_configuration = load
        return composed.hydra.mode

    patched.get_mode = get_mode


def header_of(text: str) -> dict[str, str | None]:
    """The ``# @package`` and the like that a configuration begins with.

    Raises:
        ValueError: Hydra cannot read one.
    """
    header: dict[str, str | None] = ConfigSource._get_header_dict(text)
    return header
