"""Stars under noise: no difference that the text could have made earns one."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from runner.multirun.search.objectives import objectives_of
from runner.multirun.search.show import front_of
from runner.multirun.search.state import Chosen
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.quality.answered import Answered, TaskScore
from runner.reporting.quality.evaluated import Evaluated
from runner.reporting.rows import Row, rows_of
from runner.reporting.speed import shown_first_token, shown_speed
from runner.reporting.told_apart import Contrasts
from runner.store.records import RunRecord
from tests.unit.records import content_of, measured, recipe

pytestmark = pytest.mark.unit

WINDOWS = 16


def row(name: str, size: int, found: Evaluated | None, speed: float | None = None) -> Row:
    made = Row(name, "m", "hf", "ok", None, name, checkpoint_bytes=size)
    made.evaluated, made.decode_tokens_per_second = found, speed
    made.perplexity = None if found is None else found.value
    return made


def noisy(noise: np.random.Generator, text: np.ndarray, worse: float) -> Evaluated:
    """A recipe that is worse by so many nats, and otherwise where the text and chance put it."""
    losses = text + worse + noise.normal(0, 0.02, WINDOWS)
    return measured(math.exp(losses.mean()), tuple(losses.tolist()))


def stars(rows: list[Row]) -> str:
    mark_best_tradeoffs(rows)
    return "".join(one.recipe for one in rows if one.best_tradeoff)


@pytest.mark.parametrize("smallest", [None, 0.3, 0.03])
def test_a_larger_recipe_that_is_in_truth_the_same_earns_no_star(smallest: float | None) -> None:
    """Also with a third that is smaller and worse, surely or hardly; at most one in twenty."""
    noise = np.random.default_rng(7)
    wrong, tries = 0, 300
    for _ in range(tries):
        text = noise.normal(3.0, 0.3, WINDOWS)
        rows = [row("a", 50, noisy(noise, text, 0.1)), row("b", 60, noisy(noise, text, 0.1))]
        if smallest is not None:
            rows.append(row("c", 40, noisy(noise, text, 0.1 + smallest)))
        found = stars(rows)
        wrong += "b" in found and "a" in found
    assert wrong / tries < 0.05


def test_what_is_truly_better_and_larger_earns_its_star() -> None:
    noise = np.random.default_rng(8)
    found = []
    for _ in range(200):
        text = noise.normal(3.0, 0.3, WINDOWS)
        pair = [row("a", 50, noisy(noise, text, 0.1)), row("b", 60, noisy(noise, text, 0.05))]
        found.append(stars(pair))
    assert found.count("ab") > 190, "text cancels: 0.05 nats are seen through 0.3 of it"


def chain(*worse: float) -> list[Row]:
    """Ever larger recipes; each window differs from the next by its own little."""
    shifts = np.linspace(-0.05, 0.05, WINDOWS)
    rows = []
    for number, loss in enumerate(worse):
        losses = 3.0 + loss + shifts * (-1) ** number
        found = measured(math.exp(losses.mean()), tuple(losses.tolist()))
        rows.append(row("abcdef"[number], 40 + number, found))
    return rows


def timed(name: str, size: int, loss: float, ratio: float | None, half: float = 0.02) -> Row:
    """A row with a ratio to the unquantized model's speed and its interval."""
    losses = tuple(3.0 + loss + shift for shift in np.linspace(-0.05, 0.05, WINDOWS))
    made = row(name, size, measured(math.exp(float(np.mean(losses))), losses), 100 * (ratio or 1.0))
    made.is_baseline, made.decode_ratio = ratio is None, ratio
    if ratio is not None:
        made.decode_ratio_low, made.decode_ratio_high = (
            ratio * math.exp(sign * half) for sign in (-1, 1)
        )
        made.decode_within_noise = made.decode_ratio_low <= 1 <= made.decode_ratio_high
    return made


def test_a_speed_that_is_not_shown_saves_no_worse_recipe() -> None:
    """b is told from the unquantized model's speed and a is not, but not b from a."""
    a, b = timed("a", 114, 0.1, 1.02, 0.09), timed("b", 114, 0.2, 1.06)
    dense = timed("u", 269, 0.0, None)
    assert (a.decode_within_noise, b.decode_within_noise) == (True, False)
    for rows in ([dense, a, b], [b, a, dense]):
        assert set(stars(rows)) == {"a", "u"}
    assert set(stars([dense, a, timed("b", 114, 0.2, 1.3)])) == {"a", "b", "u"}
    larger = timed("b", 115, 0.2, 1.3)
    assert set(stars([dense, a, larger])) == {"a", "b", "u"}, "shown to be faster"


def test_on_other_engines_speeds_are_what_they_are() -> None:
    slow, fast = timed("a", 50, 0.1, 0.9), timed("b", 60, 0.1, 1.0)
    fast.engine, fast.decode_tokens_per_second = "llama_cpp", 300.0
    assert stars([slow, fast]) == "ab"


def test_who_is_beaten_by_one_without_a_star_keeps_its_own() -> None:
    """a and b are alike, b and c too, a and c are not: c is a trade-off beside a, b is none."""
    losses = (0.06, 0.03, 0.0)
    rows = chain(*losses)
    assert stars(rows[:2]) == "a"
    assert stars(rows[1:]) == "b"
    assert stars(rows) == "ac"
    assert stars(list(reversed(rows))) == "ca", "whatever their order"


def test_whoever_has_no_star_has_one_beside_it_that_will_do() -> None:
    noise = np.random.default_rng(9)
    for _ in range(40):
        text = noise.normal(3.0, 0.3, WINDOWS)
        rows = [
            row(str(n), int(noise.integers(4)), noisy(noise, text, float(noise.random() / 20)),
                float(noise.integers(1, 4)))
            for n in range(12)
        ]  # fmt: skip
        mark_best_tradeoffs(rows)
        starred = [one for one in rows if one.best_tradeoff]
        contrasts = Contrasts(rows)
        assert starred
        for one in rows:
            if not one.best_tradeoff:
                assert any(_will_do(contrasts, other, one) for other in starred)
        for one in starred:
            for other in starred:
                costs_more = _costs(one) != _costs(other) and all(
                    x >= y for x, y in zip(_costs(one), _costs(other), strict=True)
                )
                assert not costs_more or not _will_do(contrasts, other, one)


def _costs(one: Row) -> tuple[float, float]:
    return float(one.checkpoint_bytes or 0), -(one.decode_tokens_per_second or 0)


def _will_do(contrasts: Contrasts, other: Row, one: Row) -> bool:
    no_worse = not contrasts.shown_worse(other, one)
    return no_worse and all(x <= y for x, y in zip(_costs(other), _costs(one), strict=True))


def test_rows_that_cannot_be_paired_are_not_told_apart() -> None:
    better = measured(15.0)
    other = replace(better, circumstances=replace(better.circumstances, base="other"))
    assert stars([row("a", 40, measured(20.0)), row("b", 50, better)]) == "ab"
    assert stars([row("a", 40, measured(20.0)), row("b", 50, other)]) == "ab", "another model's"
    assert stars([row("a", 40, None), row("b", 50, None)]) == "a"


def test_the_unquantized_model_keeps_its_star_only_where_it_is_shown_to_be_better() -> None:
    rows = chain(0.02, 0.0)
    rows[1].is_baseline = True
    assert stars(rows) == "a"
    rows = chain(0.3, 0.0)
    rows[1].is_baseline = True
    assert stars(rows) == "ab"


def test_arithmetic_earns_no_star() -> None:
    rows = [row("a", 40, measured(20.02)), row("b", 50, measured(20.0))]
    assert stars(rows) == "ab"
    for one, ratio in zip(rows, (1.011, 1.010), strict=True):
        one.perplexity_ratio, one.floor_log_ratio = ratio, 0.002
    assert stars(rows) == "a"


def accurate(name: str, size: int, right: str) -> Row:
    made = Row(name, "m", "hf", "ok", None, name, checkpoint_bytes=size)
    made.task_accuracy = right.count("1") / len(right)
    made.answered = Answered(
        "f", ("0",), {"t": TaskScore(made.task_accuracy, "d", (right,), None, None)}
    )
    return made


def test_right_answers_are_compared_item_by_item() -> None:
    base = "10" * 200
    few = "1" * 5 + base[5:]
    many = "1" * 30 + base[30:]
    # Two more of 400 may be chance, fifteen more are not: McNemar's p is 0.5 and 6e-5.
    assert stars([accurate("a", 40, base), accurate("b", 50, few)]) == "a"
    assert stars([accurate("a", 40, base), accurate("b", 50, many)]) == "ab"
    five = base[:0] + "1" * 10 + base[10:]
    # Student's t says 5 of 400 are shown, the exact test that 5 : 0 is p = 0.06.
    assert stars([accurate("a", 40, base), accurate("b", 50, five)]) == "a"
    other = accurate("b", 50, many)
    assert other.answered is not None
    other.answered = replace(other.answered, base="g")
    assert stars([accurate("a", 40, base), other]) == "a", "of another model"


def searched(number: int, perplexity: float, size: int, wobble: float) -> RunRecord:
    """A run whose windows are off by turns, so that the text hides small differences."""
    made = recipe(number, f"r{number}", perplexity, 60.0, size)
    for entry in made.stages:
        if (entry.stage, entry.subject) == ("eval", "recipe"):
            turns = (wobble, -2 * wobble, wobble)
            losses = [math.log(perplexity) + turn for turn in turns]
            entry.result["perplexity"]["window_losses"] = losses
    return made


def test_a_searchs_front_knows_the_noise_too() -> None:
    objectives = objectives_of(["perplexity", "checkpoint_bytes"])
    runs = [
        (Chosen({"n": str(number)}, number), searched(number, perplexity, size, wobble))
        for number, (perplexity, size, wobble) in enumerate(
            [(21.0, 100, 0.02), (20.9, 200, -0.02), (16.0, 300, 0.01), (15.9, 400, -0.01)]
        )
    ]
    # The second is 0.5% better than the first and may be so by chance, the third surely is better.
    assert [one["point"]["n"] for one in front_of(runs, objectives)] == ["2", "0"]
    # Of another model nothing is paired: values count as they are.
    other = runs[3][1]
    other.model_fingerprint = "g"
    runs[2][1].model_fingerprint = "f"
    assert [one["point"]["n"] for one in front_of(runs, objectives)] == ["3", "2", "0"]


class Counted(Row):
    """A row that counts how often it is compared field by field."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return self is other

    __hash__ = object.__hash__


def test_speeds_of_many_rows_are_told_apart_without_comparing_all_with_all() -> None:
    noise = np.random.default_rng(3)
    rows = [timed("u", 200, 0.0, None)]
    rows += [timed(f"r{n}", 100, 0.1, math.exp(noise.normal(0, 0.1))) for n in range(300)]
    for one in rows[1:]:
        one.__class__ = Counted
    Counted.compared = 0
    speed_of = shown_speed(rows)
    assert Counted.compared == 0
    told = sorted(rows[1:], key=lambda one: -(one.decode_ratio or 0.0))
    counted = [speed_of(one) or 0.0 for one in told]
    assert counted[0] == max(counted)
    assert len(set(counted)) < 30, "what is not told apart counts as equally fast"


def test_the_first_token_of_a_row_is_the_unquantized_models_times_what_was_shown() -> None:
    made = copy.deepcopy(recipe(0, "a", 21.0, 60.0, 100))  # records share the unquantized model's
    (row,) = (one for one in rows_of([made]) if not one.is_baseline)
    row.time_to_first_token_seconds = 0.35
    for batch in content_of(made, "bench", "baseline")["batches"]:
        batch["time_to_first_token_seconds"]["samples"] = [0.3, 0.5]
    assert shown_first_token(made, row) == pytest.approx(0.4), "within noise"
    found = content_of(made, "bench")["in_turns"][0]["time_to_first_token"]
    found["within_noise"], found["ratio"]["estimate"] = False, 0.75
    assert shown_first_token(made, row) == pytest.approx(0.3)
    # Where nothing is known of the unquantized model the row's own counts.
    content_of(made, "bench", "baseline")["batches"].clear()
    assert shown_first_token(made, row) == 0.35
    made.stages = [entry for entry in made.stages if entry.stage != "bench"]
    assert shown_first_token(made, row) == 0.35
    row.batch_size = None
    assert shown_first_token(recipe(0, "a", 21.0, 60.0, 100), row) == 0.35
