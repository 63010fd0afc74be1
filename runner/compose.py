"""Hydra, set up for the runner: schemas, search path, composition into typed objects."""

from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from runner.config.root import Config
from runner.errors import UsageError
from runner.methods import find_method, method_names
from runner.paths import conf_dir, sweeps_dir
from runner.sweeper import GridSweeper


class _SearchPath(SearchPathPlugin):
    """Finds ready sweeps, and configuration of the user's own in the working directory."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("runner-sweeps", f"file://{sweeps_dir()}")
        for name in ("conf", "sweeps"):
            own = Path.cwd() / name
            if own.is_dir() and own not in (conf_dir(), sweeps_dir()):
                search_path.append("working-directory", f"file://{own}")


def register() -> None:
    """Tell Hydra the schemas, the sweeper and where configuration lies."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name in method_names():
        store.store(group="schema/method", name=name, node=find_method(name).config)
    store.store(
        group="hydra/sweeper",
        name="basic",
        provider="quant-runner",
        node={
            "_target_": f"{GridSweeper.__module__}.{GridSweeper.__qualname__}",
            "max_batch_size": None,
            "params": None,
            "grids": None,
        },
    )
    plugins = Plugins.instance()
    plugins.register(_SearchPath)
    plugins.register(GridSweeper)


def typed(config: DictConfig) -> Config:
    """The configuration as nested dataclasses, everything resolved.

    Raises:
        UsageError: A mandatory value is missing or an interpolation cannot be resolved.
    """
    try:
        result: Any = OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        key = error.full_key or ""
        raise UsageError(f"{key} has no value: add {key}=… to the command line") from None
    except OmegaConfBaseException as error:
        raise UsageError(str(error).splitlines()[0]) from None
    assert isinstance(result, Config)
    return result
