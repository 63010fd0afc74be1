"""Which rows are told apart, by which measure, and how much more text would do it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from runner.evaluation.metrics.simultaneous import pairwise_widening
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.quality.answered import Answered, TaskScore
from runner.reporting.quality.evaluated import Evaluated
from runner.reporting.row import Row
from runner.reporting.told_apart import Contrasts
from tests.unit.records import measured

pytestmark = pytest.mark.unit

WINDOWS = 8
TEXT = np.random.default_rng(0).normal(3.0, 0.5, WINDOWS)
WAVES = np.array([np.cos(np.arange(WINDOWS) * math.pi * k / 4) for k in (1, 2, 3)])
"""What windows add to a loss: sums of zero, and unrelated."""


def evaluated(losses: NDArray[np.float64], divergences: NDArray[np.float64]) -> Evaluated:
    found = measured(math.exp(losses.mean()), tuple(losses.tolist()))
    reference = replace(found.circumstances, reference=tuple(TEXT.tolist()))
    return replace(found, circumstances=reference, divergences=(tuple(divergences.tolist()),))


def row(name: str, size: int, worse: float, wave: int, divergence: float, kl: float = 0.0) -> Row:
    """Worse by so many nats, which windows spread by a wave; the divergence spreads less."""
    own = evaluated(TEXT + worse + 0.2 * WAVES[wave], divergence + 0.02 * WAVES[wave])
    made = Row(name, "m", "hf", "ok", None, name, checkpoint_bytes=size)
    made.evaluated, made.perplexity = own, own.value
    made.kl_divergence, made.kl_divergence_low = divergence, divergence - 0.02
    made.kl_divergence_high = divergence + 0.02
    return made


def three() -> list[Row]:
    """As in the issue: no perplexity is told from another's, KL divergences are."""
    return [
        row("rtn", 114, 0.30, 0, 0.491),
        row("gptq", 114, 0.35, 1, 0.410),
        row("nf4", 116, 0.33, 2, 0.338),
    ]


def test_intervals_of_three_recipes_are_wider_than_each_alone_and_say_what_would_do() -> None:
    rows = three()
    both, alone = Contrasts(rows), Contrasts(rows[:2])
    found, own = both.perplexity(rows[1], rows[0]), alone.perplexity(rows[1], rows[0])
    assert found is not None and own is not None
    # Two waves have unrelated residuals of variance 8/7 * 0.02 each.
    half = float(stats.t.ppf(0.975, 7)) * math.sqrt(0.04 * 8 / 7 / WINDOWS)
    assert own.interval.estimate == found.interval.estimate == pytest.approx(0.05)
    assert own.interval.high - 0.05 == pytest.approx(half)
    factor = pairwise_widening(0.2 * WAVES)
    assert 1.15 < factor < 1.5
    assert found.interval.high - 0.05 == pytest.approx(factor * half, rel=0.01)
    assert (found.shown, found.clusters, found.unit) == (False, WINDOWS, "windows")
    assert found.needed_clusters is not None and own.needed_clusters is not None
    deviation = math.sqrt(0.04 * 8 / 7) / 0.05
    normal = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    assert own.needed_clusters == pytest.approx((normal * deviation) ** 2, abs=3)
    assert found.needed_clusters > own.needed_clusters
    back = both.perplexity(rows[0], rows[1])
    assert back is not None and back.needed_clusters == found.needed_clusters
    assert back.interval.low == -found.interval.high


def test_a_tie_in_perplexity_is_broken_by_kl_divergence() -> None:
    rows = three()
    contrasts = Contrasts(rows)
    rtn, gptq, nf4 = rows
    for one, other, difference in ((nf4, gptq, -0.072), (gptq, rtn, -0.081)):
        perplexity = contrasts.perplexity(one, other)
        divergence = contrasts.divergence(one, other)
        assert perplexity is not None and divergence is not None
        assert not perplexity.shown
        assert divergence.shown and divergence.needed_clusters is None
        assert divergence.interval.estimate == pytest.approx(difference)
        assert contrasts.shown_worse(other, one) and not contrasts.shown_worse(one, other)
    mark_best_tradeoffs(rows)
    assert [one.best_tradeoff for one in rows] == [False, True, True]


def test_a_shown_perplexity_decides_whatever_kl_divergence_says() -> None:
    better, worse = row("a", 1, 0.1, 0, 0.5), row("b", 1, 0.9, 1, 0.3)
    contrasts = Contrasts([better, worse])
    assert contrasts.shown_worse(worse, better) and not contrasts.shown_worse(better, worse)


def test_the_unquantized_model_diverges_by_nothing() -> None:
    one, dense = row("a", 1, 0.3, 0, 0.5), row("u", 2, 0.0, 1, 0.0)
    dense.is_baseline, dense.kl_divergence = True, None
    assert dense.evaluated is not None
    dense.evaluated = replace(dense.evaluated, divergences=())
    found = Contrasts([one, dense]).divergence(one, dense)
    back = Contrasts([one, dense]).divergence(dense, one)
    assert found is not None and back is not None
    assert found.shown and (found.interval.low, found.interval.high) == (0.48, 0.52)
    assert (back.interval.low, back.interval.high) == (-0.52, -0.48)
    one.floor_kl_divergence = 0.6
    found = Contrasts([one, dense]).divergence(one, dense)
    assert found is not None and found.within_floor and not found.shown


def test_what_arithmetic_may_have_made_is_not_shown_and_no_text_helps() -> None:
    one, other = row("a", 1, 0.3, 0, 0.5), row("b", 1, 0.31, 0, 0.6)
    assert Contrasts([one, other]).shown_worse(other, one)
    for number, each in enumerate((one, other)):
        each.perplexity_ratio = 1.3 + 0.01 * number
        each.floor_log_ratio, each.floor_kl_divergence = 0.02, 0.2
    contrasts = Contrasts([one, other])
    for found in (contrasts.perplexity(other, one), contrasts.divergence(other, one)):
        assert found is not None and found.within_floor
        assert not found.shown and found.needed_clusters is None
    assert not contrasts.shown_worse(other, one)


def test_what_does_not_pair_is_no_contrast_and_widens_nothing() -> None:
    rows = three()
    foreign = row("x", 1, 0.2, 2, 0.2)
    assert foreign.evaluated is not None
    where = replace(foreign.evaluated.circumstances, base="another")
    foreign.evaluated = replace(foreign.evaluated, circumstances=where)
    contrasts = Contrasts([*rows[:2], foreign])
    assert contrasts.perplexity(rows[0], foreign) is None
    assert contrasts.divergence(rows[0], foreign) is None
    assert contrasts.accuracy(rows[0], foreign) is None
    alone = Contrasts(rows[:2]).perplexity(rows[0], rows[1])
    assert contrasts.perplexity(rows[0], rows[1]) == alone
    copies = Contrasts([*rows[:2], row("again", 1, 0.30, 0, 0.491)])
    assert copies.perplexity(rows[0], rows[1]) == alone, "one checkpoint twice is no third"


def test_documents_are_the_units_where_windows_share_them() -> None:
    rows = three()
    for one in rows:
        assert one.evaluated is not None
        one.evaluated = replace(one.evaluated, clusters=(0, 0, 1, 1, 2, 2, 3, 3))
    found = Contrasts(rows).perplexity(rows[0], rows[1])
    assert found is not None and (found.clusters, found.unit) == (4, "documents")


def answering(name: str, *tasks: str) -> Row:
    made = Row(name, "m", "hf", "ok", None, name)
    scores = {
        f"acc/{number}": TaskScore(right.count("1") / len(right), "d", (right,), None, None)
        for number, right in enumerate(tasks)
    }
    made.answered = Answered("f", ("0",), scores)
    made.task_accuracy = made.answered.value
    return made


def test_right_answers_of_several_recipes_need_more_than_those_of_two() -> None:
    base = "10" * 200
    some = answering("b", "1" * 14 + base[14:])  # seven more of 400: McNemar's p is 0.016
    rows = [answering("a", base), some, answering("c", base[:-9] + "000000000")]
    two, all_ = (
        Contrasts(one).accuracy(rows[1], rows[0]) for one in (rows[:2], [*rows, *_others(base)])
    )
    assert two is not None and all_ is not None
    assert two.interval.estimate == all_.interval.estimate == pytest.approx(7 / 400)
    assert (two.shown, all_.shown) == (True, False)
    assert (all_.unit, all_.clusters) == ("items", 400)
    assert all_.needed_clusters is None or all_.needed_clusters > 400


def _others(base: str) -> list[Row]:
    generator = np.random.default_rng(1)
    rows = []
    for number in range(8):
        right = list(base)
        for place in generator.choice(len(base), 12, replace=False):
            right[place] = "0" if right[place] == "1" else "1"
        rows.append(answering(f"o{number}", "".join(right)))
    return rows
