"""Where Hydra looks for plugins: a package of this name, on the path (see runner.compose)."""

from runner.launching.ray_launcher import RayLauncher
from runner.launching.submitit_launcher import SubmititLauncher
from runner.search.sweeper import SearchSweeper
from runner.sweeper import GridSweeper

__all__ = ["GridSweeper", "RayLauncher", "SearchSweeper", "SubmititLauncher"]
