"""Where Hydra looks for plugins: a package of this name (see runner.config.compose)."""

from runner.multirun.grid import GridSweeper
from runner.multirun.launchers.ray import RayLauncher
from runner.multirun.launchers.submitit import SubmititLauncher
from runner.multirun.search.sweeper import SearchSweeper

__all__ = ["GridSweeper", "RayLauncher", "SearchSweeper", "SubmititLauncher"]
