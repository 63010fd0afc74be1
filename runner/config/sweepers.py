"""What is said to the sweepers, under ``hydra.sweeper``."""

from dataclasses import dataclass, field
from typing import Any, Optional

from runner.errors import UsageError


@dataclass
class GridSettings:
    """Grids, single runs and what to leave out; see ``runner.sweeper``."""

    # By name: Hydra's scan for plugins must be the first to import its own sweeper.
    _target_: str = "hydra_plugins.quant_runner.GridSweeper"
    max_batch_size: Optional[int] = None
    params: Optional[dict[str, Any]] = None
    grids: Optional[dict[str, dict[str, Any]]] = None
    runs: Optional[list[dict[str, Any]]] = None
    exclude: Optional[list[dict[str, Any]]] = None


@dataclass
class SearchSettings:
    """The space of a search and how it is gone through; see ``runner.search.sweeper``."""

    _target_: str = "hydra_plugins.quant_runner.SearchSweeper"
    space: Optional[dict[str, Any]] = None
    objectives: list[str] = field(
        default_factory=lambda: ["perplexity", "checkpoint_bytes", "decode_tokens_per_second"]
    )
    runs: int = 16
    at_once: int = 1
    sampler: str = "tpe"
    seed: int = 0


def require_positive(**settings: int | None) -> None:
    """See that settings of ``hydra.sweeper`` that count something are at least one.

    Raises:
        UsageError: One is not.
    """
    for name, value in settings.items():
        if value is not None and value < 1:
            raise UsageError(f"hydra.sweeper.{name}={value} has to be 1 or more")
