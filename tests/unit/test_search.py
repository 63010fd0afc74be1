"""Fronts, spaces and samplers of a search."""

import random
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.evaluation.metrics.front import unbeaten
from runner.multirun.search.objectives import objectives_of
from runner.multirun.search.space import Space
from runner.multirun.search.state import Chosen, State
from runner.multirun.search.study import SAMPLERS, Study
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import Row

pytestmark = pytest.mark.unit

SPACE = Space({"method": ["rtn", "gptq"], "bits": ["w3a16", "w4a16", "w8a16"], "g": ["a", "b"]})
OBJECTIVES = objectives_of(["perplexity", "decode_tokens_per_second"])


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("values", [4, 10_000])
def test_the_front_is_what_no_other_point_beats(dimensions: int, values: int) -> None:
    order = random.Random(dimensions)
    points = [[float(order.randrange(values)) for _ in range(dimensions)] for _ in range(150)]
    points += points[:10]

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    expected = [point for point in points if not any(beats(other, point) for other in points)]
    assert sorted(unbeaten(points, list, beats)) == sorted(expected)


def test_no_points_have_no_front() -> None:
    assert unbeaten([], list, lambda *_: True) == []


def test_ten_thousand_rows_are_marked_in_a_moment() -> None:
    order = random.Random(0)
    rows = [
        Row("r", "m", "hf", "ok", None, str(number), checkpoint_bytes=order.randrange(10**6),
            perplexity=order.random(), decode_tokens_per_second=order.random())
        for number in range(10_000)
    ]  # fmt: skip
    mark_best_tradeoffs(rows)
    best = [row for row in rows if row.best_tradeoff]
    assert 1 < len(best) < 1000
    smallest = min(rows, key=lambda row: row.checkpoint_bytes or 0)
    assert smallest.best_tradeoff


def test_a_shuffled_space_has_every_point_once() -> None:
    points = [SPACE.identity(point) for point in SPACE.shuffled(3)]
    assert len(points) == len(set(points)) == len(SPACE) == 12
    assert points != [SPACE.identity(SPACE.point(index)) for index in range(12)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_point_is_chosen_twice_and_all_are_in_the_end(sampler: str) -> None:
    study = Study(SPACE, OBJECTIVES, sampler, seed=1)
    study.tell({"method": "rtn", "bits": "w4a16", "g": "a"}, [20.0, 3.0])
    seen = [("rtn", "w4a16", "a")]
    while (point := study.ask()) is not None:
        seen.append(SPACE.identity(point))
        legal = point["g"] == "a"
        study.tell(point, [10.0, 2.0] if legal and point["method"] == "rtn" else None, legal)
    assert len(seen) == len(set(seen)) == 12


def test_the_sampler_learns_what_is_infeasible() -> None:
    space = Space({"a": [str(n) for n in range(8)], "b": [str(n) for n in range(8)]})
    study = Study(space, objectives_of(["perplexity", "checkpoint_bytes"]), "tpe", seed=0)
    legal = []
    for _ in range(36):
        point = study.ask()
        assert point is not None
        legal.append(int(point["a"]) < 4)
        study.tell(point, [int(point["a"]), int(point["b"])] if legal[-1] else None, legal[-1])
    assert sum(legal[16:]) > sum(not ok for ok in legal[16:])


def test_what_makes_no_sense_is_said() -> None:
    with pytest.raises(UsageError, match="has no loss; choose from perplexity"):
        objectives_of(["perplexity", "loss"])
    with pytest.raises(UsageError, match="sampler=grid: there are tpe, nsga2, random"):
        Study(SPACE, OBJECTIVES, "grid", 0)


def test_choices_are_found_again_and_only_by_the_same_search(tmp_path: Path) -> None:
    state = State.read(tmp_path, SPACE.axes, ["perplexity"])
    state.chosen = [Chosen(SPACE.point(0), 0), Chosen(SPACE.point(1), None, "illegal")]
    state.write(tmp_path)
    again = State.read(tmp_path, SPACE.axes, ["checkpoint_bytes"])
    assert again.chosen == state.chosen
    assert again.runs == 1
    with pytest.raises(UsageError, match="has another search space"):
        State.read(tmp_path, {"bits": ["w4a16", "w8a16"]}, ["perplexity"])
    other = tmp_path / "other"
    (other / "000-rtn").mkdir(parents=True)
    (other / "000-rtn" / "record.json").write_text("{}")
    with pytest.raises(UsageError, match="sweep other is not a search"):
        State.read(other, SPACE.axes, ["perplexity"])


def test_of_a_ring_the_first_is_taken_and_what_is_beaten_beats_nothing() -> None:
    def beats(pairs: set[tuple[str, str]], items: str = "abc") -> list[str]:
        return unbeaten(list(items), lambda _: 0, lambda one, other: (one, other) in pairs)

    assert beats({("a", "b"), ("b", "c"), ("c", "a")}) == ["a"]
    assert beats({("a", "b"), ("b", "c")}) == ["a", "c"], "b is out, so it beats nothing"
    assert beats({("b", "a")}) == ["b", "c"]
    assert beats(set()) == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(20))
def test_of_any_relation_no_two_on_the_front_beat_each_other(seed: int) -> None:
    order = random.Random(seed)
    items = range(9)
    pairs = {(a, b) for a in items for b in items if a != b and order.random() < seed / 40}

    def beats(one: int, other: int) -> bool:
        return (one, other) in pairs

    front = unbeaten(items, lambda _: 0, beats)
    assert not [pair for pair in pairs if set(pair) <= set(front)]
    for item in set(items) - set(front):
        assert any(beats(one, item) or beats(item, one) for one in front)
