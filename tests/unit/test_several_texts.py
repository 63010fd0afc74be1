"""A sweep over several evaluation texts: perplexities of different texts are never compared."""

import pytest

from runner.reporting.markdown import markdown
from runner.reporting.page.sections.answer import gather
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import rows_of
from runner.reporting.verdict.decide import verdicts
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
    return Subject("demo", records, rows, verdicts=verdicts(rows, records))


def test_stars_and_verdicts_are_of_one_text(about: Subject) -> None:
    starred = {(row.recipe, row.text) for row in about.rows if row.best_tradeoff}
    assert starred >= {("a", "hard"), ("b", "hard"), ("a", "easy"), ("b", "easy")}
    hard = next(one for one in about.verdicts if one.scope == "small on hard")
    assert hard.take is not None
    assert (hard.take.recipe, about.rows[hard.take.row].text) == ("a", "hard")


def test_the_page_answers_for_each_text_and_tells_rows_apart(about: Subject) -> None:
    found = gather(about)
    assert found is not None
    assert [one["scope"] for one in found["verdicts"]] == ["small on easy", "small on hard"]
    assert {row["text"] for row in about.row_dicts() if row["is_baseline"]} == {"easy", "hard"}
    text = markdown(about.rows, about.records, [], about.verdicts)
    assert "### Hard\n\n**Take a on hf: " in text
    assert "| text |" in text
