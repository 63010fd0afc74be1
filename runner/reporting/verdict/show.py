"""A verdict line by line: on a terminal, and for what else shows it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.reporting.verdict.verdict import Named, Outcome, RuledOut, Verdict
from runner.reporting.verdict.words import listed

if TYPE_CHECKING:
    from rich.console import Console

_CHECKPOINT = "Checkpoint: "
_STYLES = {Outcome.recipe: "bold green", Outcome.unquantized: "bold", Outcome.none: "bold yellow"}


def show_verdicts(verdicts: Sequence[Verdict], console: "Console") -> None:
    """Print the verdicts on one model."""
    from rich.padding import Padding
    from rich.text import Text

    whole = not console.is_terminal
    for verdict in verdicts:
        if len(verdicts) > 1:
            console.print(verdict.scope.removeprefix(verdict.model).removeprefix(" on "))
        style = _STYLES.get(verdict.outcome, "bold")
        console.print(Text(verdict.headline, style), soft_wrap=whole)
        for line in lines_of(verdict):
            # A path is copied, as a command is: no line break in it is ours.
            if whole or line.startswith(_CHECKPOINT):
                console.print(f"  {line}", soft_wrap=True)
            else:
                console.print(Padding(Text(line), (0, 0, 0, 2)))
        if verdict.take is not None and verdict.take.serve is not None:
            console.print(Text(f"  {verdict.take.serve}", "cyan"), soft_wrap=True)


def lines_of(verdict: Verdict) -> list[str]:
    """All that follows the headline but the serving command, a line each."""
    lines = []
    if verdict.take is not None and verdict.take.figures:
        lines.append(figures_of(verdict.take))
    lines += verdict.reasons
    if verdict.runner_up is not None and verdict.runner_up.figures:
        lines.append(f"Runner-up: {verdict.runner_up.recipe}: {figures_of(verdict.runner_up)}")
    if (ruled_out := ruled_out_of(verdict)) is not None:
        lines.append(ruled_out)
    if verdict.take is not None and verdict.take.checkpoint is not None:
        lines.append(f"{_CHECKPOINT}{verdict.take.checkpoint}")
    if verdict.take is not None and verdict.take.serve is not None:
        lines.append("Serve it:")
    return lines


def figures_of(named: Named) -> str:
    """What was measured of a row, in one line."""
    return ", ".join(f"{name} {value}" for name, value in named.figures.items())


def ruled_out_of(verdict: Verdict) -> str | None:
    """What was ruled out and by what, in one sentence; ``None``: nothing was."""
    nearest = None if verdict.nearest is None else verdict.nearest.row
    others = [one for one in verdict.ruled_out if one.row != nearest]
    if not others or verdict.outcome is Outcome.unknown:
        return None
    several = len({one.engine for one in others}) > 1
    return f"Ruled out: {listed([_ruled_out(one, several) for one in others])}."


def _ruled_out(one: RuledOut, several: bool) -> str:
    return f"{one.recipe}{f' on {one.engine}' if several else ''} ({one.why})"
