"""Prints what a gate says, and writes it for a pull request and for a CI's list of tests."""

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from runner.evaluation.metrics.noninferiority import Outcome
from runner.reporting.gate.judge import Criterion, GateVerdict
from runner.util.shown import console as plain_console
from runner.util.shown import escaped, printable

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_WHEN_PIPED = 140
_STYLES = {Outcome.passed: "green", Outcome.failed: "red", Outcome.unknown: "yellow"}
_MARKS = {Outcome.passed: "✅", Outcome.failed: "❌", Outcome.unknown: "❔"}
_SHARES = ("min_recovery", "max_slowdown")
"""Told in percent."""
_NAMES = {
    "min_recovery": "recovery of accuracy",
    "max_perplexity_ratio": "perplexity ratio",
    "max_kl": "KL divergence",
    "max_slowdown": "slowdown",
}


def show(verdict: GateVerdict, what: str = "gate") -> None:
    """Print every criterion, then the sum of what they are called in one line."""
    console = plain_console()
    if not console.is_terminal:
        console = plain_console(width=_WIDTH_WHEN_PIPED)
    for (candidate, against), criteria in _by_candidate(verdict.criteria):
        console.print(f"{candidate} against {against}", style="bold", soft_wrap=True)
        several = list(criteria)
        console.print(_table(several, verdict.alpha))
        for one in several:
            if one.reason:
                console.print(f"  {_NAMES[one.criterion]}: {one.reason}", soft_wrap=True)
    console.print(f"{what}: {_sum(verdict)}", style=f"bold {_STYLES[Outcome(verdict.outcome)]}")


def markdown(verdict: GateVerdict) -> str:
    """A summary for a pull request."""
    lines = [f"### {_MARKS[Outcome(verdict.outcome)]} Gate: {escaped(_sum(verdict))}", ""]
    for (candidate, against), criteria in _by_candidate(verdict.criteria):
        lines += [f"**{escaped(candidate)}** against {escaped(against)}", ""]
        heads = ("", "criterion", "limit", "measured", _bound_head(verdict.alpha), "outcome")
        lines.append(f"| {' | '.join(heads)} |")
        lines.append("| :-: | :-- | --: | --: | --: | :-- |")
        for one in criteria:
            said = f"{one.outcome}: {one.reason}" if one.reason else one.outcome
            values = (_limit(one), _value(one, one.measured), _value(one, one.bound))
            cells = (_NAMES[one.criterion], *values, said)
            marked = (_MARKS[Outcome(one.outcome)], *map(escaped, cells))
            lines.append(f"| {' | '.join(marked)} |")
        lines.append("")
    lines.append(
        f"One-sided non-inferiority tests at alpha = {verdict.alpha:g} each; failures are "
        "corrected for the number of criteria (Holm)."
    )
    return "\n".join(lines) + "\n"


def junit(verdict: GateVerdict) -> str:
    """JUnit XML: a test for each criterion, failed where it fails, an error where none can tell."""
    suite = ElementTree.Element("testsuite", name="runner gate")
    for one in verdict.criteria:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_xml(one.candidate), name=one.criterion
        )
        said = f"{_NAMES[one.criterion]}: {_value(one, one.measured)}, limit {_limit(one)}"
        if one.bound is not None:
            said += f", {_bound_head(verdict.alpha)} {_value(one, one.bound)}"
        if one.outcome != Outcome.passed:
            tag = "failure" if one.outcome == Outcome.failed else "error"
            text = f"{said}; {one.reason}" if one.reason else said
            ElementTree.SubElement(case, tag, message=_xml(text), type=one.outcome)
        ElementTree.SubElement(case, "system-out").text = _xml(f"{said}; against {one.against}")
    counts = [one.outcome for one in verdict.criteria]
    suite.set("tests", str(len(counts)))
    suite.set("failures", str(counts.count(Outcome.failed.value)))
    suite.set("errors", str(counts.count(Outcome.unknown.value)))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _limit(one: Criterion) -> str:
    sign = "≥" if one.criterion.startswith("min_") else "≤"
    return f"{sign} {100 * one.limit:g}%" if one.criterion in _SHARES else f"{sign} {one.limit:g}"


def _value(one: Criterion, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if one.criterion in _SHARES else f"{value:.4f}"


def _sum(verdict: GateVerdict) -> str:
    counts = [one.outcome for one in verdict.criteria]
    parts = [
        f"{counts.count(outcome.value)} {word}"
        for outcome, word in (
            (Outcome.passed, "pass"),
            (Outcome.failed, "fail"),
            (Outcome.unknown, "cannot be told"),
        )
        if outcome.value in counts
    ]
    return f"{verdict.outcome} ({', '.join(parts)})"


def _by_candidate(
    criteria: list[Criterion],
) -> Iterable[tuple[tuple[str, str], Iterable[Criterion]]]:
    return groupby(criteria, key=lambda one: (one.candidate, one.against))


def _table(criteria: list[Criterion], alpha: float) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("criterion", "limit", "measured", _bound_head(alpha), "outcome"):
        side = "left" if name in ("criterion", "outcome") else "right"
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for one in criteria:
        table.add_row(
            _NAMES[one.criterion],
            _limit(one),
            _value(one, one.measured),
            _value(one, one.bound),
            one.outcome,
            style=_STYLES[Outcome(one.outcome)],
        )
    return table


def _bound_head(alpha: float) -> str:
    return f"{100 * (1 - alpha):g}% bound"


def _xml(text: str) -> str:
    """Without characters that XML 1.0 has no form for."""
    return printable(text).replace("\ufffe", "").replace("\uffff", "")
