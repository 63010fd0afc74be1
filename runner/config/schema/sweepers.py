"""Settings of the sweepers, under ``hydra.sweeper``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from runner.errors import UsageError

_OF_SWEEPS = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep.")


@dataclass
class GridSettings:
    """Grids, single runs and what to leave out; see ``runner.multirun.grid``."""

    # By name: Hydra's scan for plugins must be the first to import its own sweeper.
    _target_: str = "hydra_plugins.quant_runner.GridSweeper"
    max_batch_size: Optional[int] = None
    # Of any type to OmegaConf, which merges no override into a typed section that is null, and
    # takes no new key into one that is empty: the sweepers look themselves.
    params: Any = None
    grids: Any = None
    runs: Any = None
    exclude: Any = None
    where_ready: Any = None


@dataclass
class SearchSettings:
    """The space of a search and how it is gone through; see ``runner.multirun.search.sweeper``."""

    _target_: str = "hydra_plugins.quant_runner.SearchSweeper"
    space: Any = None
    objectives: list[str] = field(
        default_factory=lambda: ["perplexity", "checkpoint_bytes", "decode_tokens_per_second"]
    )
    runs: int = 16
    max_concurrent: int = 1
    sampler: str = "tpe"
    seed: int = 0


def require_positive(**settings: int | None) -> None:
    """See that settings of ``hydra.sweeper`` that count something are at least one.

    Raises:
        UsageError: One is not.
    """
    for name, value in settings.items():
        if value is not None and value < 1:
            raise UsageError(f"hydra.sweeper.{name}={value} must be 1 or more")


def require_sections(**settings: Any) -> None:
    """See that settings of ``hydra.sweeper`` map groups and fields to choices.

    Raises:
        UsageError: One does not.
    """
    for name, value in settings.items():
        if not isinstance(value, Mapping | None):
            raise UsageError(
                f"hydra.sweeper.{name}={value} must be a section: a group or field, and its "
                "choices, such as {bits: [w4a16, w8a16]}"
            )


def require_lists(**settings: Any) -> None:
    """See that settings of ``hydra.sweeper`` are lists of such sections.

    Raises:
        UsageError: One is not.
    """
    for name, value in settings.items():
        if not isinstance(value, Sequence | None) or isinstance(value, str):
            raise UsageError(f"hydra.sweeper.{name}={value} must be a list of sections")
        require_sections(**{f"{name}[{number}]": one for number, one in enumerate(value or [])})


def require_alone(overrides: list[str]) -> None:
    """See that nothing was said to the launcher or the sweeper, of which a single run has none.

    Args:
        overrides: Hydra's own, as they were typed.

    Raises:
        UsageError: Something was.
    """
    for one in overrides:
        if one.lstrip("+~").startswith(_OF_SWEEPS):
            raise UsageError(f"{one} has an effect on sweeps alone: add -m, or leave it out")
