"""A comparison as Markdown, for a pull request."""

from runner.reporting.compare.figure import Figure
from runner.reporting.compare.pairs import Pair
from runner.reporting.compare.show import cells, notes, sum_of, untouched
from runner.reporting.gate.judge import GateVerdict
from runner.reporting.gate.show import markdown as gate_markdown
from runner.util.shown import escaped

_HEAD = ("figure", "a", "b", "b/a (or b-a, signed) [95%]", "verdict")
_MOST_DIFFERENCES = 20


def markdown(names: tuple[str, str], pairs: list[Pair], verdict: GateVerdict | None) -> str:
    """The thresholds' verdict where there are any, then figures pair by pair, then notes."""
    lines = [f"### {escaped(names[1])} against {escaped(names[0])}: {sum_of(pairs)}", ""]
    for pair in pairs:
        if not pair.figures:
            continue
        lines += [f"**{escaped(pair.label)}**", "", f"| {' | '.join(_HEAD)} |"]
        lines.append("| :-- | --: | --: | --: | :-- |")
        for figure in [*pair.figures, *pair.base]:
            lines.append(_line(figure))
        lines.append("")
    lines += [f"- {escaped(note)}" for note in untouched(pairs) + notes(pairs)]
    matched = [pair for pair in pairs if pair.differences]
    for pair in matched[:1] if len(pairs) == 1 else []:
        lines += ["", "<details><summary>What differs in settings and software</summary>", ""]
        shown = pair.differences[:_MOST_DIFFERENCES]
        lines += [f"- {escaped(one.name)}: {escaped(one.a)} → {escaped(one.b)}" for one in shown]
        if left := len(pair.differences) - len(shown):
            lines.append(f"- and {left} more, in compare.json")
        lines += ["", "</details>"]
    text = "\n".join(lines) + "\n"
    if verdict is None:
        return text
    told = gate_markdown(verdict).replace("Gate:", "Thresholds:", 1)
    return f"{told}\n{text}"


def _line(figure: Figure) -> str:
    return f"| {' | '.join(escaped(cell.strip()) for cell in cells(figure))} |"
