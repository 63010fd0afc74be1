"""What recipes lose on tasks: levels, simultaneous intervals, and whether KL foretells losses."""

import copy
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from runner.config.schema.claims import Claim, Effect
from runner.evaluation.lm_eval.levels import LevelScore, choose_levels
from runner.evaluation.metrics.paired import mcnemar
from runner.evaluation.metrics.rank import rank_correlation
from runner.reporting.capabilities.floors import answer_floors
from runner.reporting.capabilities.foretold import ALL_TASKS, foretold
from runner.reporting.capabilities.losses import losses
from runner.reporting.capabilities.show import capabilities_markdown
from runner.reporting.claims.decide import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, decide
from runner.store.records import RunRecord, StageRecord, Status
from tests.unit.records import unread, whole

pytestmark = pytest.mark.unit


def scores(*rights: int, items: int = 10) -> list[LevelScore]:
    return [LevelScore(level, items, right) for level, right in enumerate(rights, start=1)]


@pytest.mark.parametrize(
    ("rights", "chosen", "said"),
    [
        ((10, 9, 6, 3, 0), [2, 3, 4], None),
        ((10, 10, 1), [2], "ceiling"),  # 1.0 is nearer to 0.9 than 0.1 to 0.3
        ((10, 9, 0), [2], None),
        ((2, 0), [1], "floor"),
        ((10, 10), [2], "ceiling"),
        ((), [], "no level fits"),
    ],
)
def test_levels_are_those_at_which_something_can_be_lost(
    rights: tuple[int, ...], chosen: list[int], said: str | None
) -> None:
    found = choose_levels(scores(*rights), 0.3, 0.9)
    assert found.levels == chosen
    assert found.why_not is None if said is None else said in str(found.why_not)


def test_a_level_whose_prompts_are_cut_is_not_asked() -> None:
    pilot = scores(9, 8, 7)
    pilot[2].fits = False
    assert choose_levels(pilot, 0.3, 0.9).levels == [1, 2]


def test_rank_correlations_are_scipys_and_their_intervals_hold() -> None:
    chosen = np.random.default_rng(0)
    x, y = chosen.normal(size=9), chosen.integers(0, 4, 9).astype(float)
    found = rank_correlation(x.tolist(), y.tolist())
    assert found is not None
    assert found.estimate == pytest.approx(stats.spearmanr(x, y).statistic)
    assert rank_correlation([1, 2, 3], [1, 2, 3]) is None, "too few"
    assert rank_correlation([1, 2, 3, 4], [5, 5, 5, 5]) is None, "nothing varies"
    perfect = rank_correlation(range(8), range(8))
    assert perfect is not None
    assert perfect.estimate == perfect.high == 1.0
    assert 0.5 < perfect.low < 1.0
    # Pairs of a bivariate normal distribution, whose rank correlation is 6/pi asin(r/2).
    true, held = 6 / math.pi * math.asin(0.35), 0
    for _ in range(300):
        a = chosen.normal(size=10)
        b = 0.7 * a + math.sqrt(1 - 0.49) * chosen.normal(size=10)
        interval = rank_correlation(a.tolist(), b.tolist())
        assert interval is not None
        held += interval.low <= true <= interval.high
    assert held / 300 > 0.92


def record(name: str, tasks: dict[str, tuple[str, str]], number: int) -> RunRecord:
    """A run: right answers of the unquantized model and of the recipe by task, as 1 and 0."""

    def asked(side: int) -> dict[str, Any]:
        return whole(
            "tasks",
            {
                "tasks": [
                    {
                        "task": task, "items": len(sides[0]), "asked_for": True,
                        "scores": [{
                            "metric": "acc", "filter": "none", "higher_is_better": True,
                            "value": sides[side].count("1") / len(sides[side]),
                            "standard_error": None, "change": None,
                            "outcomes": sides[side], "items_sha256": task,
                        }],
                    }
                    for task, sides in tasks.items()
                ],
                "overall": None,
            },
        )  # fmt: skip

    return RunRecord(
        sweep="s", run=f"{number:03d}-{name}", label=name, model="small", engine="hf",
        status=Status.ok, reason=None, started="", seconds=1.0, overrides=[f"method={name}"],
        config={"method": {"name": name}},
        stages=[
            StageRecord("tasks", subject, f"k{number}{subject}", False, 1.0, "e", {}, asked(side))
            for side, subject in enumerate(("baseline", "recipe"))
        ],
    )  # fmt: skip


def answers(items: int, right: int, lost: int, gained: int) -> tuple[str, str]:
    before = "1" * right + "0" * (items - right)
    after = "0" * lost + "1" * (right - lost) + "1" * gained + "0" * (items - right - gained)
    return before, after


def test_losses_are_told_with_intervals_that_hold_together() -> None:
    sides = {"long": answers(100, 70, 30, 0), "short": answers(100, 70, 3, 2)}
    found = losses([record("low", sides, 0), record("same", dict.fromkeys(
        sides, answers(100, 70, 0, 0)), 1)])  # fmt: skip
    by_name = {(one.recipe, one.task): one for one in found}
    long, short = by_name["low", "long"], by_name["low", "short"]
    assert (long.shown, short.shown) == (True, False)
    assert long.difference.estimate == pytest.approx(-0.3)
    assert (long.lost, long.gained) == (30, 0)
    assert long.p_value == pytest.approx(4 * mcnemar([1] * 30, [0] * 30).p_value)
    assert short.p_value == 1.0
    unchanged = by_name["same", "long"].difference
    assert unchanged.estimate == 0.0
    assert unchanged.low < -0.02 < 0.02 < unchanged.high, "that nothing changed is not known"
    alone = losses([record("low", {"short": sides["short"]}, 0)])[0].difference
    assert short.difference.low < alone.low, "more differences, wider intervals"
    text = "\n".join(capabilities_markdown([record("low", sides, 0)]))
    assert "| low | -30 ± " in text
    assert "\\* | -1 ± " in text


def test_one_table_in_twenty_shows_a_loss_that_is_none() -> None:
    chosen = random.Random(0)

    def draw() -> str:
        return "".join(chosen.choice("01") for _ in range(40))

    tables = 60
    wrong = 0
    for _ in range(tables):
        base = {task: draw() for task in "abc"}

        def near(before: str) -> str:
            flips = {place for place in range(40) if chosen.random() < 0.2}
            return "".join(
                chosen.choice("01") if place in flips else one for place, one in enumerate(before)
            )

        rows = [record(str(n), {task: (base[task], near(base[task])) for task in base}, n)
                for n in range(4)]  # fmt: skip
        wrong += any(one.shown for one in losses(rows))
    assert wrong / tables <= 0.1


def test_whether_kl_foretells_losses() -> None:
    rows = [record(str(n), {"a": answers(100, 80, 5 * n, 0), "b": answers(100, 80, 3, n)}, n)
            for n in range(6)]  # fmt: skip
    found = [replace(one, kl_divergence=0.1 * int(one.recipe)) for one in losses(rows)]
    verdicts = {one.task: one for one in foretold(found)}
    assert set(verdicts) == {"a", "b", ALL_TASKS}
    assert verdicts["a"].verdict == "KL foretells it"
    assert verdicts["b"].verdict == "KL misleads"
    assert foretold(losses(rows)) == [], "nothing without KL divergences"


def test_claims_are_about_right_answers_too() -> None:
    rows = [record("rtn", {"calls": answers(200, 150, 40, 0),
                                "words": answers(200, 150, 2, 2)}, 0)]  # fmt: skip

    def verdict(task: str | None, **asserted: Any) -> str:
        claim = Claim(id="C", sentence="c", metric="accuracy", task=task, left="method=rtn",
                      right="unquantized", **asserted)  # fmt: skip
        return decide(claim, rows).verdict

    assert verdict("calls", at_most=-0.1) == HOLDS
    assert verdict("calls", at_least=-0.02) == DOES_NOT_HOLD
    assert verdict("words", at_least=-0.1) == HOLDS
    assert verdict("words", at_least=-0.005) == CANNOT_TELL
    assert verdict(None, at_most=-0.05) == HOLDS
    assert verdict("needle", at_most=0) == CANNOT_TELL
    claim = Claim(id="C", sentence="c", metric="accuracy", task="calls", left="method=rtn",
                  right="unquantized", effect=Effect.ratio, at_most=0.5)  # fmt: skip
    (found,) = decide(claim, rows).comparisons
    assert "compared by difference" in found.verdict


def test_what_arithmetic_does_stands_beside_what_recipes_do() -> None:
    sides = {"calls": answers(100, 70, 12, 0)}
    row = record("rtn", sides, 0)
    varied = record("unread", {"calls": answers(100, 70, 9, 4)}, 1).stages[1]
    found = copy.deepcopy(unread(varied).result)
    found["tasks"][0]["scores"][0]["change"] = {
        "baseline": 0.7, "delta": -0.05, "delta_interval": None, "recovery_percent": None,
        "answers_changed": 20, "mcnemar": {"lost": 9, "gained": 4, "p_value": 0.27},
    }  # fmt: skip
    row.stages.append(
        StageRecord("tasks_floor", "bfloat16", "f", False, 1.0, "e", {}, whole("tasks", found))
    )
    (floor,) = answer_floors([row])
    assert (floor.task, floor.difference, floor.answers_changed) == ("calls", -0.05, 20)
    (loss,) = losses([row])
    assert 0.05 < loss.floor < 0.2, "the far end of what was seen"
    assert loss.within_floor and not loss.shown, "p is small, but arithmetic does as much"
    text = "\n".join(capabilities_markdown([row]))
    assert "floor: bfloat16 against its type | -5 (20)" in text
    assert "| rtn | -12 ± " in text and "\\~" in text
