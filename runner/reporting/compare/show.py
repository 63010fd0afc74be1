"""Prints a comparison."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from runner.reporting.compare.figure import NOT_PAIRED, Figure
from runner.reporting.compare.find import Side
from runner.reporting.compare.pairs import Pair
from runner.reporting.compare.speed import SPEEDS
from runner.util.shown import console as plain_console

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_WHEN_PIPED = 140
_NEGLIGIBLE_DRIFT = 0.005
_STYLES = {
    "better": "green", "worse": "red", "within noise": "dim", "equal": "dim", NOT_PAIRED: "dim",
}  # fmt: skip
_UNITS = {"_bytes": ("MB", 1e-6), "_seconds": ("ms", 1e3)}


def show(a: Side, b: Side, pairs: list[Pair]) -> None:
    """Print differences of configuration first, then figures pair by pair, then the sum."""
    console = plain_console()
    if not console.is_terminal:
        console = plain_console(width=_WIDTH_WHEN_PIPED)
    console.print(f"a: {a.name}\nb: {b.name}", soft_wrap=True)
    matched = [pair for pair in pairs if pair.a and pair.b]
    for name, count in _common_differences(matched):
        where = "" if count == len(matched) else f"  (in {count} of {len(matched)} pairs)"
        console.print(f"  {name}{where}", soft_wrap=True)
    if any(pair.figures for pair in matched):
        console.print(_table(matched))
    for note in untouched(pairs):
        console.print(note, soft_wrap=True)
    console.print(f"b against a: {sum_of(pairs)}", style="bold")
    for note in notes(pairs):
        console.print(note, soft_wrap=True)


def sum_of(pairs: list[Pair]) -> str:
    """How many figures have which verdict."""
    verdicts = Counter(figure.verdict for pair in pairs for figure in pair.figures)
    total = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return total or "nothing to compare"


def untouched(pairs: list[Pair]) -> list[str]:
    """What has no partner, and what did not come to its end."""
    lines = []
    for side, alone in (("a", [p for p in pairs if not p.b]), ("b", [p for p in pairs if not p.a])):
        if alone:
            lines.append(f"only in {side}: {', '.join(pair.label for pair in alone)}")
    for pair in pairs:
        if pair.a and pair.b and pair.statuses != ("ok", "ok"):
            lines.append(f"{pair.label}: {pair.statuses[0]} in a, {pair.statuses[1]} in b")
    return lines


def notes(pairs: list[Pair]) -> list[str]:
    """What stands behind the verdicts: the base's own change first."""
    matched = [pair for pair in pairs if pair.a and pair.b]
    figures = [figure for pair in matched for figure in pair.figures]
    lines = [*dict.fromkeys(pair.base_note for pair in matched if pair.base_note)]
    if any(figure.verdict == "unknown" for figure in figures):
        lines.append("unknown: measured only once, so it cannot be separated from noise")
    return [*lines, *_quality_notes(matched), *_drift_notes(figures)]


def _quality_notes(pairs: list[Pair]) -> list[str]:
    """Why quality was not paired, each reason once with how often it stands."""
    reasons = Counter(
        f"{NOT_PAIRED}: {figure.name}: {figure.reason}"
        for pair in pairs
        for figure in pair.figures
        if figure.verdict == NOT_PAIRED
    )
    reasons += Counter(pair.note for pair in pairs if pair.note)
    return [f"{why}{f' ({count} times)' if count > 1 else ''}" for why, count in reasons.items()]


def _drift_notes(figures: list[Figure]) -> list[str]:
    """What the machine did to speeds, where a verdict might rest on it."""
    factors = [math.exp(abs(math.log(figure.drift))) for figure in figures if figure.drift]
    if factors and (most := max(factors) - 1) >= _NEGLIGIBLE_DRIFT:
        up_to = "up to " if len(factors) > 1 else ""
        return [
            f"drift: the unquantized model changed by {up_to}{most:.0%} between the two; "
            "intervals of speeds are widened by as much"
        ]
    speeds = [figure for figure in figures if figure.name.partition("/")[0] in SPEEDS]
    if any(figure.relative for figure in speeds):
        return [
            "speeds: each run alternated with the unquantized model; b/a compares the two ratios "
            "to it, so drift cancels out"
        ]
    if any(figure.verdict == "unknown" for figure in speeds):
        return [
            "speeds are unknown unless both runs measured the unquantized model, with the same "
            "engine, versions and machine: otherwise drift cannot be separated"
        ]
    return []


def _common_differences(pairs: list[Pair]) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter(
        f"{difference.name}: {_plain(difference.a)} → {_plain(difference.b)}"
        for pair in pairs
        for difference in pair.differences
    )
    return counts.most_common()


def _plain(value: Any) -> str:
    return "absent" if value is None else str(value)


def _table(pairs: list[Pair]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    for name in ("a", "b", "b/a (or b-a, signed) [95%]", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for pair in pairs:
        if not pair.figures:
            continue
        table.add_row(pair.label, "", "", "", "", style="bold")
        for figure in pair.figures:
            table.add_row(*cells(figure), style=_STYLES.get(figure.verdict))
        for figure in pair.base:
            if figure.verdict != "equal":
                table.add_row(*cells(figure), style=_STYLES.get(figure.verdict))
    return table


def cells(figure: Figure) -> tuple[str, ...]:
    """A figure's line."""
    name, factor = figure.name, 1.0
    stem, slash, rest = name.partition("/")
    for ending, (unit, scale) in _UNITS.items():
        if stem.endswith(ending):
            factor = scale
            stem = f"{stem.removesuffix(ending)}, {unit}"
    name = f"{stem.replace('_', ' ')}{slash}{rest}"
    ratio = f"{figure.b / figure.a:.3f}" if figure.a and figure.verdict != NOT_PAIRED else "-"
    if (difference := figure.difference) is not None:
        low, high = (f"{bound:+z.4f}" for bound in (difference.low, difference.high))
        ratio = f"{difference.estimate:+z.4f} [{low}, {high}]"
    if figure.ratio is not None:
        ratio = f"{figure.ratio.estimate:.3f} [{figure.ratio.low:.3f}, {figure.ratio.high:.3f}]"
    return (
        f"  {name}",
        f"{figure.a * factor:.5g}",
        f"{figure.b * factor:.5g}",
        ratio,
        figure.verdict,
    )
