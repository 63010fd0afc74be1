"""What a check says, and the time that all of them have together."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

RESERVE_SECONDS = 10.0
"""Kept for ending processes and for the report."""


class State(Enum):
    """How a check ended; the words are printed."""

    ok = "ok"
    failed = "failed"
    not_possible = "not possible here"
    left_out = "left out"
    """The time was over before it could begin, or a dry run computes nothing."""


class Failed(Exception):
    """What was checked does not hold; the message says what was found instead."""


class NotPossible(Exception):
    """This machine lacks something that the check needs; the message names it."""


@dataclass
class Outcome:
    """One line of the report."""

    name: str
    state: State
    detail: str
    seconds: float
    log: list[str] = field(default_factory=list)
    """Last lines of what a failed run printed."""

    @property
    def line(self) -> str:
        """As it is printed."""
        return f"{self.state.value:<17} {self.seconds:6.1f} s  {self.name}: {self.detail}"


@dataclass(frozen=True)
class Check:
    """One thing to find out."""

    name: str
    run: Callable[[], str]
    """Returns what was found; raises ``Failed`` or ``NotPossible``."""
    least_seconds: float = 1.0
    """Not begun with less time left: what it takes on a fast machine."""
    computes: bool = True
    """Whether it needs a GPU that computes; a dry run leaves it out."""


class RunFailed(Failed):
    """A run did not end well."""

    def __init__(self, message: str, log: Sequence[str]) -> None:
        """Say why, with the last lines of what it printed."""
        super().__init__(message)
        self.log = list(log)


class Budget:
    """Seconds that are left of those given to all checks."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start now."""
        self.seconds = seconds
        self.clock = clock
        self._began = clock()

    @property
    def spent(self) -> float:
        """Since the start."""
        return self.clock() - self._began

    @property
    def left(self) -> float:
        """For checks, the reserve apart."""
        return self.seconds - self.spent - RESERVE_SECONDS


def carry_out(
    checks: Sequence[Check],
    budget: Budget,
    say: Callable[[str], None],
    *,
    dry: bool = False,
) -> list[Outcome]:
    """Go through checks in their order, the most important first.

    Args:
        checks: What to find out.
        budget: A check for which too little of it is left is not begun.
        say: Told each outcome as it comes.
        dry: Leave out what needs a GPU that computes.
    """
    outcomes = []
    for check in checks:
        began = budget.clock()
        outcome = _carry_out(check, budget, dry)
        outcome.seconds = budget.clock() - began
        say(outcome.line)
        outcomes.append(outcome)
    return outcomes


def _carry_out(check: Check, budget: Budget, dry: bool) -> Outcome:
    outcome = Outcome(check.name, State.left_out, "", 0.0)
    if dry and check.computes:
        outcome.detail = "a dry run computes nothing"
    elif budget.left < check.least_seconds:
        outcome.detail = (
            f"takes {check.least_seconds:.0f} s or more, {max(0.0, budget.left):.0f} s are left"
        )
    else:
        try:
            outcome.detail, outcome.state = check.run(), State.ok
        except NotPossible as reason:
            outcome.detail, outcome.state = str(reason), State.not_possible
        except Failed as reason:
            outcome.detail, outcome.state = str(reason), State.failed
            outcome.log = list(getattr(reason, "log", []))
        except Exception as error:  # a fault of the check's own must not end the others
            outcome.detail, outcome.state = f"{type(error).__name__}: {error}", State.failed
            outcome.log = traceback.format_exc().splitlines()
    return outcome


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How many ended how."""
    return {state.value: sum(one.state is state for one in outcomes) for state in State}
