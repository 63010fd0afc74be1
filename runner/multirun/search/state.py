"""The state of a search: points chosen so far, stored beside the sweep's records."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from runner.config.renamed import present_axes
from runner.errors import UsageError
from runner.multirun.search.space import Point
from runner.store.files import write_json_atomically
from runner.util.serialise import from_json, to_json

STATE_FILE = "search.json"


@dataclass
class Chosen:
    """A point that was chosen once, and the number of its run in the sweep."""

    point: Point
    run: int | None
    """``None`` where the point is illegal: it is not run."""
    reason: str | None = None
    """Why it is illegal."""


@dataclass
class State:
    """Axes, objectives and choices of a search, in order."""

    axes: dict[str, list[str]]
    objectives: list[str]
    chosen: list[Chosen] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """Points that were given a run."""
        return sum(one.run is not None for one in self.chosen)

    def write(self, sweep: Path) -> None:
        """File it in the sweep's folder."""
        write_json_atomically(sweep / STATE_FILE, to_json(self))

    @classmethod
    def read(cls, sweep: Path, axes: dict[str, list[str]], objectives: list[str]) -> "State":
        """What an earlier start of the search has left; else a new one.

        Raises:
            UsageError: The sweep has runs already and is no search, or a search of another space.
        """
        try:
            state = from_json(cls, json.loads((sweep / STATE_FILE).read_text("utf-8")))
        except FileNotFoundError:
            if any(sweep.glob("*/record.json")):
                raise UsageError(
                    f"sweep {sweep.name} is not a search; choose another sweep=NAME"
                ) from None
            return cls(axes, objectives)
        except ValueError:
            raise UsageError(
                f"{sweep / STATE_FILE} is damaged: choose another sweep=NAME, or delete it and the "
                "sweep's runs"
            ) from None
        state.axes = present_axes(state.axes, STATE_FILE)
        if state.axes != axes:
            raise UsageError(
                f"sweep {sweep.name} has another search space ({', '.join(state.axes)}); choose "
                "another sweep=NAME, or the same hydra.sweeper.space"
            )
        state.objectives = objectives
        return state
