"""A verdict in words: the same sentences in the terminal, on the page and in Markdown."""

from collections.abc import Sequence

from runner.config.schema.decide import Decide, Goal
from runner.reporting.rows import Row
from runner.reporting.verdict.goals import EQUAL, Choice
from runner.reporting.verdict.limits import limits_set, megabytes
from runner.reporting.verdict.quality import MEASURES, Step
from runner.reporting.verdict.verdict import Tie

_MOST_NAMED = 4
_SUPERLATIVES = {
    Goal.quality: "the best quality",
    Goal.size: "the smallest",
    Goal.speed: "the fastest",
    Goal.cost: "the cheapest",
}
_EQUALLY = {
    Goal.size: f"within {EQUAL:.0%} of the smallest",
    Goal.speed: "not shown to be slower than the fastest",
    Goal.cost: f"within {EQUAL:.0%} of the cheapest",
}


def listed(names: Sequence[str], last: str = "and") -> str:
    """``a, b and c``; of many the first few."""
    if len(names) > _MOST_NAMED + 1:
        more = len(names) - _MOST_NAMED
        return f"{', '.join(names[:_MOST_NAMED])} {last} {more} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def limits_in_words(decide: Decide, assumed: Sequence[str]) -> str:
    """The limits that hold, in one phrase; empty where there is none."""
    said = []
    for limit, bound in limits_set(decide):
        default = " by default" if limit.field in assumed else ""
        if limit.field == "max_perplexity_ratio":
            said.append(f"perplexity at most {bound:.4g}x unquantized{default}")
        else:
            said.append(f"{limit.what} {limit.words(bound)}{default}")
    said += [f"engine {decide.engine}"] if decide.engine else []
    said += [f"hardware {decide.hardware}"] if decide.hardware else []
    return ", ".join(said)


def superlative(goal: Goal, count: int, *, limited: bool) -> str:
    """As in ``the smallest of 3 that meet the limits``."""
    meet = " that meet the limits" if limited else ""
    if count == 1:
        return "the only one that meets the limits" if limited else "the only one"
    return f"{_SUPERLATIVES[goal]} of {count}{meet}"


def quality_sentences(
    choice: Choice, goal: Goal, names: dict[int, str], ties: Sequence[Tie]
) -> list[str]:
    """How quality was told apart among what counted as equal by the goal."""
    said = []
    if goal is not Goal.quality and len(choice.pool) > 1:
        others = [names[id(row)] for row in choice.pool if row is not choice.row]
        said.append(f"Also {_EQUALLY[goal]}: {listed(others)}. Quality decides among them.")
    steps, sentence = choice.steps, ""
    for number, step in enumerate(steps):
        sentence = _step(step, names, before=steps[number - 1] if number else None)
        said.append(sentence)
    if steps and steps[-1].alike and choice.row is not steps[-1].best:
        said.append(_last_resort(choice, goal, names))
    said += [text for tie in ties if (text := _needed(tie))]
    return said


def _step(step: Step, names: dict[int, str], before: Step | None) -> str:
    """``gptq and rtn are not told apart from nf4 by perplexity``, or who is ahead by how much."""
    best, what = names[id(step.best)], step.measure.what
    values = listed([_value(step, row) for row in (*step.alike, *step.worse)])
    compared = f"({_value(step, step.best)} against {values})"
    if not step.alike:
        lead = "is ahead in" if before else "is best by"
        return f"{best} {lead} {what} {compared}, and that is more than noise."
    alike = listed([names[id(row)] for row in step.alike])
    are = "are" if len(step.alike) > 1 else "is"
    worse = ""
    if step.worse:
        behind = listed([names[id(row)] for row in step.worse])
        worse = f"; {behind} {'are' if len(step.worse) > 1 else 'is'} shown to be worse"
    if before:
        lead = f"{best} is ahead in {what} {compared}"
        return f"{lead}, but {alike} {are} not told apart from it{worse}."
    return f"By {what}, {alike} {are} not told apart from {best} {compared}{worse}."


def _last_resort(choice: Choice, goal: Goal, names: dict[int, str]) -> str:
    taken = names[id(choice.row)]
    sizes = [row.checkpoint_bytes for row in (choice.row, *choice.equal)]
    own = choice.row.checkpoint_bytes
    if own is not None and goal is not Goal.size and None not in sizes:
        largest = max(size or 0 for size in sizes)
        if largest > own * (1 + EQUAL) and own == min(size or 0 for size in sizes):
            return f"Of those, {taken} is the smallest."
    return f"Of those, {taken} has the lowest estimate of {_steadiest(choice.row)}."


def _steadiest(row: Row) -> str:
    return next((m.what for m in (MEASURES[1], *MEASURES) if m.value(row) is not None), "loss")


def _value(step: Step, row: Row) -> str:
    value = step.measure.value(row)
    return "?" if value is None else step.measure.shown(value)


def _needed(tie: Tie) -> str | None:
    known = {name: count for name, count in tie.needed.items() if count is not None}
    if not known:
        return None
    what = next(measure.what for measure in MEASURES if measure.field == tie.measure)
    if len(known) == 1:
        ((name, count),) = known.items()
        return f"About {count:,} {tie.unit} would tell {name} from {tie.best} by {what}."
    ordered = sorted(known.items(), key=lambda pair: pair[1])
    counts = listed([f"about {count:,} for {name}" for name, count in ordered])
    return f"{tie.unit.capitalize()} that would tell them from {tie.best} by {what}: {counts}."


def figures(row: Row, baseline: Row | None, dollars: float | None) -> dict[str, str]:
    """What was measured of a row, by name, with units and 95% intervals."""
    said: dict[str, str] = {}
    if row.perplexity is not None:
        change = ""
        if row.perplexity_ratio is not None and not row.is_baseline:
            change = f" ({_percent(row.perplexity_ratio)}"
            if row.perplexity_ratio_low is not None and row.perplexity_ratio_high is not None:
                bounds = map(_percent, (row.perplexity_ratio_low, row.perplexity_ratio_high))
                change += f" [{', '.join(bounds)}]"
            change += ")"
        said["perplexity"] = f"{row.perplexity:.3f}{change}"
    if row.kl_divergence is not None:
        said["KL divergence"] = f"{row.kl_divergence:.4f}" + _ends(
            row.kl_divergence_low, row.kl_divergence_high, "{:.4f}"
        )
    if row.task_accuracy is not None:
        recovery = row.task_recovery_percent
        share = "" if recovery is None else f" ({recovery:.1f}% of unquantized)"
        said["accuracy"] = f"{row.task_accuracy:.3f}{share}"
    if row.checkpoint_bytes is not None:
        whole = None if baseline is None or row.is_baseline else baseline.checkpoint_bytes
        smaller = "" if not whole else f" ({row.checkpoint_bytes / whole:.0%} of unquantized)"
        said["size"] = f"{megabytes(row.checkpoint_bytes)}{smaller}"
    if row.decode_tokens_per_second is not None:
        said["decode"] = f"{row.decode_tokens_per_second:.1f} tok/s{_ratio(row)}"
    if dollars is not None:
        said["cost"] = f"${dollars:.3g} per million tokens"
    return said


def _ratio(row: Row) -> str:
    if row.decode_ratio is None or row.is_baseline:
        return ""
    same = "~" if row.decode_within_noise else ""
    ends = _ends(row.decode_ratio_low, row.decode_ratio_high, "{:.2f}")
    return f" ({same}{row.decode_ratio:.2f}x{ends})"


def _ends(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f" [{form.format(low)}, {form.format(high)}]"


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+z.1f}%"
