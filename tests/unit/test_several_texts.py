"""A sweep over several evaluation texts: perplexities of different texts are never compared."""

import pytest

from runner.reporting.comparable import comparable_rows
from runner.reporting.markdown import markdown
from runner.reporting.page.sections.answer import gather
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.recommend import picks
from runner.reporting.rows import rows_of
from runner.store.records import RunRecord
from tests.unit.records import CONFIG, recipe

pytestmark = pytest.mark.unit


def on(text: str, number: int, label: str, perplexity: float, size: int) -> RunRecord:
    config = {**CONFIG, "eval": {"text": {"name": text}}}
    return recipe(number, label, perplexity, 40.0, size, config=config)


@pytest.fixture
def about() -> Subject:
    """On the hard text every perplexity is above the easy one's, size for size."""
    records = [
        on("easy", 1, "a", 20.5, 90_000_000),
        on("easy", 2, "b", 22.5, 80_000_000),
        on("hard", 3, "a", 21.5, 90_000_000),
        on("hard", 4, "b", 29.0, 80_000_000),
    ]
    rows = rows_of(records)
    mark_best_tradeoffs(rows)
    return Subject("demo", records, rows)


def test_stars_and_picks_are_of_one_text(about: Subject) -> None:
    starred = {(row.recipe, row.text) for row in about.rows if row.best_tradeoff}
    assert starred >= {("a", "hard"), ("b", "hard"), ("a", "easy"), ("b", "easy")}
    chosen = picks(comparable_rows(about.rows)["small on hard"], 0.10)
    assert chosen.quality is not None
    assert (chosen.quality.recipe, chosen.quality.text) == ("a", "hard")


def test_the_page_answers_for_each_text_and_tells_rows_apart(about: Subject) -> None:
    found = gather(about)
    assert found is not None
    assert [one["scope"] for one in found["scopes"]] == ["small on easy", "small on hard"]
    assert found["usual"] == 0.10
    assert {row["text"] for row in about.row_dicts() if row["is_baseline"]} == {"easy", "hard"}
    text = markdown(about.rows, about.records, [])
    assert "Tolerating an increase of perplexity on hard of at most 10%" in text
    assert "| text |" in text


def test_where_little_is_tolerable_the_page_begins_with_what_is(about: Subject) -> None:
    found = gather(Subject("demo", about.records, [r for r in about.rows if r.recipe != "a"]))
    assert found is not None
    assert found["usual"] is None
