"""Fronts, spaces and samplers of a search."""

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, RunMode

from runner.config.compose import quoted, register
from runner.config.kept_configs import KeptConfigs
from runner.config.kept_merges import KeptMerges
from runner.errors import UsageError
from runner.evaluation.metrics.front import unbeaten
from runner.multirun.search.objectives import measured, objectives_of
from runner.multirun.search.show import _compare, _Found
from runner.multirun.search.space import Space
from runner.multirun.search.state import Chosen, State
from runner.multirun.search.study import SAMPLERS, Study
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.quality.answered import Answered, TaskScore
from runner.reporting.quality.evaluated import Evaluated
from runner.reporting.rows import Row
from runner.store.records import Status
from runner.util.paths import conf_dir
from tests.unit.records import measured as evaluated
from tests.unit.records import recipe

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
    with pytest.raises(UsageError, match="has no entry; choose from perplexity"):
        objectives_of([])
    with pytest.raises(UsageError, match="sampler=grid: there are tpe, nsga2, random"):
        Study(SPACE, OBJECTIVES, "grid", 0)


def test_a_search_says_how_to_get_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'quant-runner\[search\]'"):
        Study(SPACE, OBJECTIVES, "tpe", 0)


@pytest.mark.parametrize("content", ["{", "[]", '{"axes": {}, "objectives": [], "chosen": [1]}'])
def test_damaged_choices_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "search.json").write_text(content)
    with pytest.raises(UsageError, match=r"search\.json is damaged: choose another sweep=NAME"):
        State.read(tmp_path, SPACE.axes, ["perplexity"])


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


def test_a_run_has_the_values_that_are_asked_for_or_says_what_measures_them() -> None:
    made = recipe(0, "a", 20.0, 60.0, 40)
    names = ["checkpoint_bytes", "perplexity", "decode_tokens_per_second"]
    assert measured(made, objectives_of(names)) == [40.0, 20.0, pytest.approx(60.0)]
    with pytest.raises(UsageError, match="has no task_accuracy: add the stage that measures it"):
        measured(made, objectives_of(["perplexity", "task_accuracy"]))
    twice = objectives_of(["checkpoint_bytes", "perplexity", "checkpoint_bytes"])
    assert measured(made, twice) == [40.0, 20.0], "a value for each objective"
    assert len(twice) == 2
    made.status = Status.failed
    assert measured(made, objectives_of(["task_accuracy"])) is None


def compared(name: str, one: Row, other: Row, values: tuple[float, float]) -> int:
    (objective,) = objectives_of([name])
    found = [
        _Found(str(place), {}, row, [value])
        for place, (row, value) in enumerate(zip((one, other), values, strict=True))
    ]
    return _compare(*found, objective, 0)


def row(evaluated: Evaluated | None = None, answered: Answered | None = None) -> Row:
    made = Row("r", "m", "hf", "ok", None, "r")
    made.evaluated, made.answered = evaluated, answered
    return made


def test_of_divergences_only_a_difference_that_is_shown_counts() -> None:
    def diverging(*windows: float, of: float = 1.0) -> Row:
        losses = tuple(of + shift for shift in (0.1, 0.0, -0.1))
        where = replace(evaluated(20.0).circumstances, reference=losses)
        return row(replace(evaluated(20.0), circumstances=where, divergences=(windows,)))

    near, far = diverging(0.10, 0.20, 0.30), diverging(0.15, 0.25, 0.35)
    assert compared("kl_divergence", near, far, (0.2, 0.25)) == -1
    assert compared("kl_divergence", far, near, (0.25, 0.2)) == 1
    noisy = diverging(0.35, 0.01, 0.35)
    assert compared("kl_divergence", near, noisy, (0.2, 0.24)) == 0
    # From another reference they are no differences of the recipes; the values stand.
    assert compared("kl_divergence", near, diverging(0.35, 0.01, 0.35, of=2.0), (0.2, 0.24)) == -1
    assert compared("kl_divergence", near, row(), (0.2, 0.1)) == 1


def test_of_right_answers_only_a_difference_that_is_shown_counts() -> None:
    def right(outcomes: str, items: str = "d") -> Row:
        score = TaskScore(outcomes.count("1") / len(outcomes), items, (outcomes,), None, None)
        return row(answered=Answered("f", ("0",), {"t": score}))

    base = "10" * 200
    few, many = "1" * 5 + base[5:], "1" * 30 + base[30:]
    assert compared("task_accuracy", right(base), right(few), (0.5, 0.505)) == 0
    assert compared("task_accuracy", right(many), right(base), (0.54, 0.5)) == -1
    assert compared("task_accuracy", right(base), right(many), (0.5, 0.54)) == 1
    assert compared("task_accuracy", right(base), right(few, "other"), (0.5, 0.505)) == 1
    assert compared("task_accuracy", right(base), row(), (0.5, 0.4)) == -1


@pytest.fixture(scope="module")
def loader() -> ConfigLoaderImpl:
    register()
    setup_globals()
    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(conf_dir())))
    loader.repository = KeptConfigs(loader.repository)
    KeptMerges(loader)
    return loader


def search(space: dict[str, Any], loader: ConfigLoaderImpl, store: Path) -> Any:
    # Hydra imports plugins anew when it looks for them.
    from runner.multirun.search.sweeper import SearchSweeper

    made = SearchSweeper(
        space=space, objectives=["perplexity"], runs=3, max_concurrent=1, sampler="random", seed=0
    )
    made.hydra_context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
    given = ["model=tiny", f"store.root={quoted(store)}"]
    made.config = loader.load_configuration("config", given, RunMode.MULTIRUN)
    return made


def test_a_search_is_looked_at_before_it_begins(
    loader: ConfigLoaderImpl, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = search({"bits": ["w4a16", "w8a16"]}, loader, store)
    assert wanted.sweep(["method=rtn", "dry_run=true"]) == []
    assert "search of 3 runs among 2 points: bits: w4a16, w8a16" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"remove launch\.detach=true"):
        wanted.sweep(["launch.detach=true"])
    wanted.space = {}
    with pytest.raises(UsageError, match=r"hydra\.sweeper\.space is empty"):
        wanted.sweep(["bits=w4a16"])
    with pytest.raises(UsageError, match="w5a99"):
        wanted.sweep(["bits=w5a99,w4a16"])
    assert not store.exists()


def test_what_does_not_compose_together_is_an_illegal_point(
    loader: ConfigLoaderImpl, store: Path
) -> None:
    made = search({}, loader, store)
    assert "no method.sym" in made._wrong(["method=none", "method.sym=false"])
    assert "model.path has no value" in made._wrong(["model=local"])


class Told:
    """A study that notes what it is told."""

    def __init__(self) -> None:
        self.points: list[tuple[Any, bool]] = []

    def tell(self, point: Any, values: Any, legal: bool = True) -> None:
        self.points.append((values, legal))


def test_the_sampler_is_told_what_became_of_a_point(loader: ConfigLoaderImpl, store: Path) -> None:
    made, study = search({}, loader, store), Told()
    objectives = objectives_of(["perplexity"])
    run, illegal = Chosen(SPACE.point(0), 0), Chosen(SPACE.point(1), None, "illegal")
    finished = recipe(0, "a", 20.0, 60.0, 40)
    skipped, failed = replace(finished, status=Status.skipped), replace(finished, status=Status.oom)
    for chosen, record in (
        (illegal, None), (run, skipped), (run, failed), (run, None), (run, finished),
    ):  # fmt: skip
        made._tell(study, chosen, record, objectives)
    bad = (None, False)
    assert study.points == [bad, bad, (None, True), (None, True), ([20.0], True)]
