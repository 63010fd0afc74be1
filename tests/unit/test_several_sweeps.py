"""One answer over several sweeps: every run once, each known by its sweep."""

import copy
import csv
import json
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.reporting.claims.decide import HOLDS, decide_claims
from runner.reporting.page.subject import Subject
from runner.reporting.report import report
from runner.reporting.rows import rows_of
from runner.reporting.select import several_sweeps
from runner.store.records import write_record
from tests.unit.records import CONFIG, bench, recipe, whole

pytestmark = pytest.mark.unit

CLAIM = {
    "id": "C1", "sentence": "GPTQ makes it smaller.", "metric": "bits_per_weight",
    "left": "method=gptq", "right": "unquantized", "effect": "difference",
    "at_least": None, "at_most": 0.0,
}  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The same recipe in two sweeps, and one more in each; the second states a claim."""
    claimed = {"config": CONFIG | {"claims": [CLAIM]}, "unquantized_bits": 16.0}
    for entry in (
        recipe(0, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000, sweep="first"),
        recipe(1, "rtn-w4a16-g64", 23.0, 60.0, 90_000_000, sweep="first"),
        recipe(0, "gptq-w4a16-g64", 21.0, 50.0, 90_000_000, sweep="second", **claimed),
        recipe(1, "gptq-w3a16-g64", 26.0, 60.0, 70_000_000, sweep="second", **claimed),
    ):
        write_record(tmp_path / "runs", entry)
    return tmp_path / "runs"


def test_runs_are_known_by_their_sweep_and_counted_once(runs: Path) -> None:
    asked = several_sweeps(runs, ["sec", "first/001", "second/000"])
    assert [record.run for record in asked.records] == [
        "second/000-gptq-w4a16-g64", "second/001-gptq-w3a16-g64", "first/001-rtn-w4a16-g64",
    ]  # fmt: skip
    assert (asked.name, asked.folder) == ("second, first", None)
    with pytest.raises(UsageError, match="no sweep matches third"):
        several_sweeps(runs, ["first", "third"])


def test_one_answer_names_the_sweep_of_every_row(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = tmp_path / "copies"
    report(runs, None, copies, page=True, several=["first", "second"])
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "gptq-w4a16-g64" in line and "90.0" in line]
    assert ["first" in line for line in lines] == [True, False]
    assert ["second" in line for line in lines] == [False, True]
    assert "Speeds come from 2 sweeps, measured at different times" in printed
    assert f"answer.json and answer.csv: {copies}" in printed
    rows = list(csv.DictReader((copies / "answer.csv").open()))
    assert [row["recipe"] for row in rows].count("gptq-w4a16-g64") == 2
    assert {row["run"] for row in rows if row["run"]} == {
        "first/000-gptq-w4a16-g64", "first/001-rtn-w4a16-g64",
        "second/000-gptq-w4a16-g64", "second/001-gptq-w3a16-g64",
    }  # fmt: skip
    # Only the smaller of equals is beaten: each of the two lacks what the other sweep has.
    starred = {(row["recipe"], row["sweep"]) for row in rows if row["best_tradeoff"] == "True"}
    assert ("gptq-w4a16-g64", "first") in starred
    assert ("gptq-w4a16-g64", "second") not in starred
    assert json.loads((copies / "answer.json").read_text())["sweep"] == "first, second"
    assert "| sweep |" in (copies / "answer.md").read_text()
    page = (copies / "report.html").read_text()
    assert '"sweep":"Sweep"' in page
    assert "second/001-gptq-w3a16-g64" in page
    # A sweep's own answer is left as it was.
    assert not (runs / "first" / "answer.csv").exists()


def test_the_page_tells_equal_recipes_apart(runs: Path) -> None:
    records = several_sweeps(runs, ["first", "second"]).records
    rows = Subject("both", records, rows_of(records)).row_dicts()
    speeds = {
        row["sweep"]: row["batches"][0]["speed"]
        for row in rows
        if row["recipe"] == "gptq-w4a16-g64"
    }
    assert speeds == {"first": 60.0, "second": 50.0}


def test_an_unquantized_model_shows_the_speeds_of_its_own_sweep(runs: Path) -> None:
    other = recipe(0, "a", 21.0, 60.0, 90_000_000, sweep="third")
    other.stages = [entry for entry in copy.deepcopy(other.stages) if entry.stage == "bench"]
    other.stages[0].result |= whole("bench", bench(20.0, 270_000_000))
    write_record(runs, other)
    records = several_sweeps(runs, ["first", "third"]).records
    rows = Subject("both", records, rows_of(records)).row_dicts()
    speeds = {row["sweep"]: row["batches"][0]["speed"] for row in rows if row["is_baseline"]}
    assert speeds == {"first": 40.0, "third": 20.0}


def test_claims_are_decided_by_the_runs_of_their_own_sweep(runs: Path) -> None:
    (decision,) = decide_claims(several_sweeps(runs, ["first", "second"]).records)
    assert decision.verdict.startswith(HOLDS)
    assert len(decision.comparisons) == 2


def test_one_sweep_needs_no_column_for_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(runs, "first", None)
    printed = capsys.readouterr().out
    assert "sweep" not in printed.partition("answer.json")[0]
    assert "Speeds of" not in printed
