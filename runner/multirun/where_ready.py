"""Grids of a sweep that are used where all that their runs need is on this machine."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from runner.config.choices import value_of
from runner.config.compose import judge
from runner.config.kept_configs import KeptConfigs
from runner.config.kept_merges import KeptMerges
from runner.config.schema.root import Config
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager, State
from runner.errors import UsageError
from runner.planning.compute_for import compute_for
from runner.planning.hardware.detect import detect
from runner.validation.environments import environment_needs

Grids = dict[str, dict[str, Any]]


def first_ready(
    several: Sequence[Grids], overrides: Sequence[Override], loader: Any, config: DictConfig | None
) -> Grids | None:
    """The first that leaves the command line's choices alone and needs no making.

    Args:
        several: Grids by name, each with one value a key.
        overrides: Of the command line.
        loader: Hydra's.
        config: The sweep's own.
    """
    # A copy: what launchers take to other processes stays as Hydra made it.
    loader = copy.copy(loader)
    keep_what_is_read(loader)
    own = [override.input_line or "" for override in overrides]
    keys = {override.get_key_element() for override in overrides}

    def ready(grid: dict[str, Any]) -> bool:
        words = [f"{key}={value_of(value)}" for key, value in grid.items()]
        composed = judge(loader.load_sweep_config(config, [*words, *own]))
        return composed is not None and is_ready(composed)

    for grids in several:
        if all(keys.isdisjoint(grid) and ready(grid) for grid in grids.values()):
            return grids
    return None


def keep_what_is_read(loader: Any) -> None:
    """Have a loader of Hydra's read and merge once what runs share."""
    if not isinstance(loader.repository, KeptConfigs):
        loader.repository = KeptConfigs(loader.repository)
        KeptMerges(loader)


def is_ready(config: Config) -> bool:
    """Whether every environment that a run needs is on this machine, and the device too.

    Args:
        config: The run's.
    """
    machine = detect()
    device = compute_for(config, machine).device
    if device != "cpu" and not machine.gpus:
        return False
    environments = Path(config.store.environments).expanduser().resolve()
    manager = EnvironmentManager(environments, environments / "logs")
    try:
        chosen = [
            (choose(config.environment, need.provided, need.device, need.named), need.device)
            for need in environment_needs(config, device)
        ]
    except UsageError:
        return False
    lacking = (State.absent, State.outdated)
    return all(manager.state(one, device) not in lacking for one, device in chosen)
