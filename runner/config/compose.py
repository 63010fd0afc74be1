"""Hydra, set up for the runner: schemas, search path, composition into typed objects."""

import functools
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, DictConfig, OmegaConf, flag_override
from omegaconf.errors import (
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from runner.config import output_folder as output
from runner.config.bounds import faults
from runner.config.errors import explain
from runner.config.files import register_sources
from runner.config.hydra_internals import (
    collect_choices_where_needed,
    compose_once,
    read_numbers_by,
    replace_saving,
)
from runner.config.names import register_resolvers
from runner.config.options import conf_dirs, option_files, sweeps_dirs
from runner.config.plugin_sections import root_type
from runner.config.plugin_source import PluginSource
from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config
from runner.config.schema.sweepers import GridSettings, SearchSettings
from runner.config.schema.text import TextKind
from runner.config.text_by_name import resolve_text
from runner.config.units import in_unit
from runner.config.words import quoted  # noqa: F401  (where callers have always found it)
from runner.errors import UsageError
from runner.util.extensions import Kind, find, names
from runner.util.names import Name, require_name
from runner.util.paths import plugins_dir, sweeps_dir
from runner.util.redact import redact_yaml
from runner.util.surroundings import expanded

_MOST_FAULTS = 3
"""Wrong values that one message names."""


class _SearchPath(SearchPathPlugin):
    """Finds ready sweeps, and configuration of the user's own in the working directory."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        _store_schema(root_type())
        search_path.append("runner-sweeps", f"file://{sweeps_dir()}")
        for *own, _ in (conf_dirs(), sweeps_dirs()):
            for folder in own:
                search_path.prepend("working-directory", f"own://{folder}", anchor="main")
        search_path.append("plug-ins", f"{PluginSource.scheme()}://")


def _store_schema(root: type[Config]) -> None:
    """Hydra looks for plug-ins' sections at every start, which in one process rarely change."""
    store = ConfigStore.instance()
    known = store.repo.get("schema.yaml")
    if not isinstance(known, ConfigNode) or OmegaConf.get_type(known.node) is not root:
        store.store(name="schema", node=root)


@functools.cache
def register() -> None:
    """Tell Hydra the schemas, the sweeper and where configuration lies; once a process."""
    OmegaConf.register_new_resolver("runner.folder", output.chosen, use_cache=True, replace=True)
    register_resolvers()
    replace_saving(_save_masked)
    collect_choices_where_needed()
    compose_once()
    read_numbers_by(in_unit)
    store = ConfigStore.instance()
    for name in names(Kind.method, builtin=True):
        store.store(group="schema/method", name=name, node=find(Kind.method, name).load().config)
    for name in names(Kind.engine, builtin=True):
        store.store(group="schema/engine", name=name, node=find(Kind.engine, name).load().config)
    plugins_path = str(plugins_dir())
    if plugins_path not in sys.path:
        sys.path.append(plugins_path)
    # Hydra imports all that lies in folders of this name, but none of the working directory's.
    import hydra_plugins  # type: ignore[import-untyped]

    places = (Path(one).absolute() for one in hydra_plugins.__path__)
    hydra_plugins.__path__ = [str(one) for one in places if one.parent != Path.cwd()]
    register_sources()
    Plugins.instance().register(PluginSource)
    Plugins.instance().register(_SearchPath)
    # Ours does what Hydra's basic one does, which would leave its notes of a refused request.
    for name, node in (("basic", GridSettings), ("grid", GridSettings), ("search", SearchSettings)):
        store.store(group="hydra/sweeper", name=name, provider="quant-runner", node=node)


def _save_masked(cfg: DictConfig, filename: str, output_dir: Path) -> None:
    """What Hydra files of a request in ``.hydra``, where a user asks for that."""
    output_dir.mkdir(parents=True, exist_ok=True)
    text = redact_yaml(OmegaConf.to_yaml(cfg))
    (output_dir / filename).write_text(text, encoding="utf-8")


def typed(config: DictConfig, overrides: Sequence[str] = ()) -> Config:
    """The configuration as nested dataclasses, everything resolved.

    Args:
        config: What was composed.
        overrides: Of what, for messages.

    Raises:
        UsageError: A mandatory value is missing, a key is unknown, or an interpolation cannot
            be resolved; a source of a mix names no text; a name is none of a folder.
    """
    try:
        _require_values(config)
        result: Any = OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        raise _no_value(error.full_key or "") from None
    except OmegaConfBaseException as error:
        raise UsageError(explain(error, overrides)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the configuration cannot be read: {error}") from None
    if not isinstance(result, Config):
        raise UsageError("this is not a run configuration: its defaults must begin with config")
    if wrong := [*itertools.islice(faults(result), _MOST_FAULTS)]:
        raise UsageError("; ".join(wrong))
    result.store.root = expanded(result.store.root)
    result.store.environments = expanded(result.store.environments)
    result.tracker.directory = expanded(result.tracker.directory)
    if result.sweep is not None:
        result.sweep = Name.given("sweep", result.sweep)
    for what, name in _names(result):
        require_name(what, name)
    for source in result.calibration.sources:
        source.text = resolve_text(source.text)
        if wrong := [*faults(source.text, "calibration.sources.text.")]:
            raise UsageError(wrong[0])
    _require_sound(result, "")
    if unknown := list(_unknown_keys(result, "")):
        raise UsageError(f"there is no {', '.join(unknown)}; remove the settings added with +")
    return result


def judge(composed: DictConfig) -> Config | None:
    """See that what Hydra composed for a job makes a configuration, before any job is begun.

    What an interpolation leads to is left to the job: it may name what is known only there.

    Args:
        composed: With Hydra's own node; it is left as it is.

    Returns:
        The configuration; ``None`` where an interpolation is yet to be resolved.

    Raises:
        UsageError: As ``typed``, or ``launch.on_failure`` is no policy.
    """
    # Hydra's node is of its own type, and has values that are filled in when the job runs.
    with flag_override(composed, ["struct", "no_deepcopy_set_nodes"], [False, True]):
        own = composed.pop("hydra")
        try:
            config = typed(composed)
            _ = config.launch.max_failures
        except UsageError as error:
            if not isinstance(error.__context__, InterpolationResolutionError):
                raise
            return None
        finally:
            composed["hydra"] = own
    return config


_MANDATORY = {
    "model.path": ModelKind.local,
    "model.hub_id": ModelKind.hub,
    "calibration.text.path": TextKind.file,
    "eval.text.path": TextKind.file,
    "sensitivity.text.path": TextKind.file,
}
"""Fields without which an option means nothing, by the kind that makes them so."""


def _require_values(config: DictConfig) -> None:
    """See that options have what they mean nothing without.

    Raises:
        UsageError: One has not.
    """
    for key, kind in _MANDATORY.items():
        section, _, name = key.rpartition(".")
        node = OmegaConf.select(config, section)
        if isinstance(node, DictConfig) and node.get("kind") is kind and node.get(name) in _NOTHING:
            raise _no_value(key)


_NOTHING = (None, "")


def _names(config: Config) -> Iterator[tuple[str, str]]:
    """Settings whose values name files and folders, and those values."""
    for key, environment in config.environment.items():
        yield f"environment.{key}.name", environment.name
    for key in config.tasks.own:
        yield "tasks.own", key


def _no_value(key: str) -> UsageError:
    if (group := key.removesuffix(".name")) != key and option_files(group):
        return UsageError(f"{group} has no option: add {group}=OPTION to the command line")
    return UsageError(f"{key} has no value: add {key}=… to the command line")


def _require_sound(section: Any, prefix: str) -> None:
    """See what OmegaConf does not: that every field has a value.

    Raises:
        UsageError: A field was left out, as ``~stages`` does.
    """
    for name, content in vars(section).items():
        if isinstance(content, str) and content == MISSING:
            raise _no_value(f"{prefix}{name}")
        if is_dataclass(content):
            _require_sound(content, f"{prefix}{name}.")


def _unknown_keys(value: Any, prefix: str) -> Iterator[str]:
    """Keys that ``+key=value`` added to sections that know nothing of them."""
    known = {field.name for field in fields(value)}
    for name, content in vars(value).items():
        if name not in known:
            yield f"{prefix}{name}"
        elif is_dataclass(content):
            yield from _unknown_keys(content, f"{prefix}{name}.")
