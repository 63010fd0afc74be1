"""Decides which recipe to take, scope by scope."""

import math
from collections.abc import Sequence

from runner.config.schema.decide import Decide, Goal
from runner.reporting.comparable import comparable_rows
from runner.reporting.rows import Row
from runner.reporting.told_apart import Contrasts
from runner.reporting.verdict.goals import Choice, Ranking
from runner.reporting.verdict.limits import Finding, State, findings
from runner.reporting.verdict.measured_on import Origins
from runner.reporting.verdict.quality import tie
from runner.reporting.verdict.stated import completed, goal_of, stated
from runner.reporting.verdict.verdict import Named, Outcome, RuledOut, Tie, Verdict
from runner.reporting.verdict.words import (
    figures,
    limits_in_words,
    quality_sentences,
    superlative,
)
from runner.store.records import RunRecord, Status


def verdicts(
    rows: list[Row], records: Sequence[RunRecord], given: Decide | None = None
) -> list[Verdict]:
    """One verdict for each scope that has a quantized recipe with a result.

    Args:
        rows: Of the answer.
        records: What they come from.
        given: Limits and goal that are stated now; those of the runs where it says nothing.
    """
    asked, origins = stated(given, records), Origins(records)
    numbers = {id(row): number for number, row in enumerate(rows)}
    return [
        _Scope(scope, comparable, asked, origins, numbers).verdict()
        for scope, comparable in comparable_rows(rows).items()
        if any(_counts(row) and not row.is_baseline for row in comparable)
    ]


def _counts(row: Row) -> bool:
    return row.status == Status.ok.value and not row.is_floor


_NO_QUALITY = "quality was not measured (stage eval or tasks)"


class _Scope:
    """Rows whose quality compares."""

    def __init__(
        self,
        name: str,
        rows: list[Row],
        asked: Decide,
        origins: Origins,
        numbers: dict[int, int],
    ) -> None:
        self.name, self.numbers = name, numbers
        self.rows = [row for row in rows if _counts(row)]
        self.goal = goal_of(asked, self.rows)
        self.is_open = asked.goal is None
        """Nobody said what to go by: quality has a say then."""
        self.decide, self.assumed = completed(asked, self.rows)
        self.baseline = next((row for row in self.rows if row.is_baseline), None)
        known = {id(row): origins.dollars(row) for row in self.rows}
        self.dollars = {number: cost for number, cost in known.items() if cost is not None}
        self.contrasts = Contrasts(self.rows)
        self.ranking = Ranking(self.rows, self.goal, self.contrasts, self.dollars)
        device = self.decide.hardware
        self.broken = {
            id(row): findings(row, self.decide, device is None or origins.is_on(row, device))
            for row in self.rows
        }
        several = len({row.engine for row in self.rows}) > 1
        self.names = {
            id(row): f"{row.recipe} on {row.engine}" if several else row.recipe for row in self.rows
        }

    def verdict(self) -> Verdict:
        """What to take among them."""
        meeting = [row for row in self.rows if not self.broken[id(row)]]
        quantized = [row for row in meeting if not row.is_baseline]
        best = self.ranking.best(quantized)
        baseline = next((row for row in meeting if row.is_baseline), None)
        if not any(self.ranking.cost(row) is not None for row in self.rows) or (
            self.is_open and not self._has_quality()
        ):
            return self._unknown()
        if best is None and baseline is None:
            return self._nothing()
        if best is None or (baseline is not None and self._prefers(baseline, best)):
            assert baseline is not None
            return self._unquantized(baseline, best)
        return self._recipe(best, meeting)

    def _prefers(self, baseline: Row, best: Choice) -> bool:
        """Whether the unquantized model is the one to take: nothing is better by the goal."""
        if self.goal is Goal.quality:
            # What is measured as better than what it approximates is so by chance.
            return True
        if self.goal is Goal.size:
            return False
        choice = self.ranking.best([baseline, best.row])
        return choice is not None and choice.row is baseline

    def _recipe(self, best: Choice, meeting: list[Row]) -> Verdict:
        limits = limits_in_words(self.decide, self.assumed)
        which = superlative(self.goal, len(meeting), limited=bool(limits))
        ties = self._ties(best)
        reasons = quality_sentences(best, self.goal, self.names, ties)
        second = self.ranking.best([row for row in meeting if row is not best.row])
        return self._made(
            Outcome.recipe,
            f"Take {self._place(best.row)}: {which}{f' ({limits})' if limits else ''}.",
            [*reasons, *self._cautions(best.row)],
            take=best.row,
            runner_up=None if second is None else second.row,
            ties=ties,
        )

    def _unquantized(self, baseline: Row, best: Choice | None) -> Verdict:
        limits = limits_in_words(self.decide, self.assumed)
        which = f" ({limits})" if limits else ""
        if best is None:
            nearest = self._nearest()
            untold = any(
                one.state is State.untold for row in self.rows for one in self.broken[id(row)]
            )
            shown = "is shown to meet" if untold else "meets"
            why = f"no recipe {shown} the limits{which}"
            reasons = [] if nearest is None else [f"The nearest is {self._missing(nearest)}."]
            return self._made(
                Outcome.unquantized, f"Take the unquantized model: {why}.", reasons,
                take=baseline, nearest=nearest,
            )  # fmt: skip
        why = {
            Goal.quality: "it meets the limits, and no recipe keeps more quality"
            if limits
            else "no recipe keeps more quality, and no limit rules it out",
        }.get(self.goal, "no recipe is shown to be " + _comparative(self.goal))
        ties = self._ties(best)
        reasons = [f"Of the recipes, {self._place(best.row)} is the one to take."]
        reasons += quality_sentences(best, self.goal, self.names, ties)
        return self._made(
            Outcome.unquantized, f"Take the unquantized model: {why}{which}.",
            reasons, take=baseline, runner_up=best.row, ties=ties,
        )  # fmt: skip

    def _nothing(self) -> Verdict:
        nearest = self._nearest()
        limits = limits_in_words(self.decide, self.assumed)
        close = f"; the nearest is {self._missing(nearest)}" if nearest else ""
        return self._made(
            Outcome.none, f"Nothing meets the limits ({limits}){close}.", [], nearest=nearest
        )

    def _unknown(self) -> Verdict:
        needs = (
            _NO_QUALITY
            if self.is_open
            else {
                Goal.quality: _NO_QUALITY,
                Goal.size: "no checkpoint was made or measured",
                Goal.speed: "speed was not measured (stage bench)",
                Goal.cost: "cost is not known: set hardware.price.dollars_per_hour, with stage "
                "bench or serving",
            }[self.goal]
        )
        return self._made(Outcome.unknown, f"Nothing can be recommended: {needs}.", [])

    def _made(
        self,
        outcome: Outcome,
        headline: str,
        reasons: list[str],
        *,
        take: Row | None = None,
        runner_up: Row | None = None,
        nearest: RuledOut | None = None,
        ties: Sequence[Tie] = (),
    ) -> Verdict:
        fields = self.decide.limits
        return Verdict(
            scope=self.name,
            model=self.rows[0].model,
            goal=self.goal.value,
            limits=fields,
            assumed=self.assumed,
            outcome=outcome,
            headline=headline,
            reasons=reasons,
            take=self._named(take),
            runner_up=self._named(runner_up),
            nearest=nearest,
            ruled_out=[self._ruled_out(row) for row in self.rows if self.broken[id(row)]],
            ties=list(ties),
        )

    def _has_quality(self) -> bool:
        return any(row.perplexity is not None or row.task_accuracy is not None for row in self.rows)

    def _cautions(self, row: Row) -> list[str]:
        """What whoever takes it should know besides."""
        said = [] if self._has_quality() else ["Quality was not measured: add stage eval."]
        high = row.decode_ratio_high
        if high is not None and high < 1 and row.decode_ratio is not None:
            said.append(
                f"It decodes slower than the unquantized model: {row.decode_ratio:.2f}x "
                f"[{row.decode_ratio_low:.2f}, {high:.2f}]."
            )
        return said + ([f"Of its checkpoint: {row.caveat}."] if row.caveat else [])

    def _ties(self, choice: Choice) -> list[Tie]:
        found = (tie(step, self.contrasts, self._name) for step in choice.steps)
        return [one for one in found if one is not None]

    def _nearest(self) -> RuledOut | None:
        """The row that is beyond its limits by the least; a recipe, where there is one."""
        rows = [row for row in self.rows if not row.is_baseline]
        nearest = min(rows, key=lambda row: _distance(self.broken[id(row)]), default=None)
        return None if nearest is None else self._ruled_out(nearest)

    def _ruled_out(self, row: Row) -> RuledOut:
        found = self.broken[id(row)]
        return RuledOut(
            recipe=row.recipe,
            engine=row.engine,
            row=self.numbers[id(row)],
            limits=[one.field for one in found],
            why="; ".join(one.says for one in found),
        )

    def _missing(self, ruled_out: RuledOut) -> str:
        return f"{ruled_out.recipe} on {ruled_out.engine} ({ruled_out.why})"

    def _named(self, row: Row | None) -> Named | None:
        if row is None:
            return None
        return Named(
            recipe=row.recipe,
            engine=row.engine,
            row=self.numbers[id(row)],
            run=row.run,
            figures=figures(row, self.baseline, self.dollars.get(id(row))),
            checkpoint=row.checkpoint,
            checkpoint_key=row.checkpoint_key,
            serve=row.serve,
        )

    def _name(self, row: Row) -> str:
        return self.names[id(row)]

    def _place(self, row: Row) -> str:
        return f"{row.recipe} on {row.engine}"


def _comparative(goal: Goal) -> str:
    return {Goal.speed: "faster", Goal.cost: "cheaper"}.get(goal, "better")


def _distance(found: Sequence[Finding]) -> tuple[int, float]:
    """How far from its limits a row is: first what no number tells, then the furthest."""
    untold = sum(one.state is State.unknown or math.isinf(one.over) for one in found)
    return untold, max((one.over for one in found if math.isfinite(one.over)), default=0.0)
