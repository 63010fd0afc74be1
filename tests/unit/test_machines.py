"""What runs of several machines and GPUs come to: speeds are told by the GPUs in use."""

import dataclasses
from typing import Any

import pytest

from runner.reporting.comparable import comparable_rows
from runner.reporting.compare.find import Side
from runner.reporting.compare.pairs import pair_up
from runner.reporting.draws import by_recipe
from runner.reporting.markdown import markdown
from runner.reporting.page.build import _overview
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import rows_of
from runner.reporting.table import build_table
from runner.reporting.verdict.decide import verdicts
from runner.store.records import RunRecord
from tests.unit.records import content_of, recipe

pytestmark = pytest.mark.unit

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"


def host(*gpus: tuple[str, int]) -> dict[str, Any]:
    """A node with these GPUs in use, by name and number."""
    described = [
        {"name": name, "memory_bytes": 80, "compute_capability": "9.0", "uuid": f"GPU-{n}",
         "index": n}
        for name, n in gpus
    ]  # fmt: skip
    return {"cpu_name": "Xeon", "usable_cores": 8, "gpus": described}


def run(number: int, label: str, speed: float, *gpus: tuple[str, int], **changes: Any) -> RunRecord:
    made = recipe(number, label, 21.0, speed, 90_000_000 + number, host=host(*gpus), **changes)
    for subject in ("baseline", "recipe"):
        content_of(made, "bench", subject)["device"] = "cuda"
    return made


def test_what_a_page_names_is_what_was_used() -> None:
    records = [run(0, "a", 60.0, (H100, 5)), run(1, "b", 90.0, (H100, 0), (H100, 1))]
    subject = Subject("s", records, rows_of(records))
    assert _overview(subject)["hosts"] == ["2 x NVIDIA H100 80GB HBM3", H100]
    found = {row["recipe"]: row["hardware"] for row in subject.row_dicts() if row["run"]}
    assert found == {"a": H100, "b": f"2 x {H100}"}


def test_gpus_of_one_kind_are_one_machine() -> None:
    records = [run(n, label, 60.0 + n, (H100, n)) for n, label in enumerate("ab")]
    rows = rows_of(records)
    assert [row.recipe for row in rows] == ["unquantized", "a", "b"]
    assert [*comparable_rows(rows)] == ["small"]
    assert "machine" not in markdown(rows, records, [])
    # Speeds of another process, told by ratios to the unquantized model's.
    (pair,) = pair_up(*(Side(r.run, [r], True) for r in records))
    judged = {f.name: f.verdict for f in pair.figures}
    assert judged["decode_tokens_per_second/batch_1"] != "unknown"
    assert [one.name for one in pair.differences if one.name.startswith("host")] == []
    draws = [run(n, "a", 60.0, (H100, n)) for n in range(2)]
    for n, one in enumerate(draws):
        one.config["calibration"]["seed"] = n
        entry = one.entry("quantize")
        assert entry is not None
        entry.key = str(n)
    assert [len(one.records) for one in by_recipe(draws)] == [2], "draws of one recipe"


def test_speeds_of_unlike_gpus_are_not_compared() -> None:
    fast, slow = run(0, "fast", 300.0, (H100, 0)), run(1, "slow", 60.0, (L4, 1))
    content_of(fast, "bench", "baseline")["batches"][0]["decode_tokens_per_second"]["mean"] = 200.0
    records = [fast, slow]
    rows = rows_of(records)
    assert [(row.recipe, row.machine) for row in rows] == [
        ("unquantized", H100), ("fast", H100), ("unquantized", L4), ("slow", L4),
    ]  # fmt: skip
    assert [row.decode_tokens_per_second for row in rows if row.is_baseline] == [200.0, 40.0]
    scopes = comparable_rows(rows)
    assert {name: [row.recipe for row in own] for name, own in scopes.items()} == {
        f"small on {H100}": ["unquantized", "fast"], f"small on {L4}": ["unquantized", "slow"],
    }  # fmt: skip
    mark_best_tradeoffs(rows)
    assert [row.recipe for row in rows if row.best_tradeoff and not row.is_baseline] == [
        "fast", "slow",
    ], "of the two the other is faster by far, by its GPU"  # fmt: skip
    text = markdown(rows, records, [], verdicts(rows, records))
    assert f"### {L4}" in text and f"| {H100} |" in text
    assert f"Speeds are of 2 machines ({H100}; {L4}) and compared within each." in text
    assert "machine" in [str(column.header) for column in build_table(rows, 250).columns]
    (pair,) = pair_up(Side("a", [fast], True), Side("b", [slow], True))
    judged = {f.name: f.verdict for f in pair.figures}
    assert judged["decode_tokens_per_second/batch_1"] == "unknown"
    shown = Subject("s", records, rows).row_dicts()
    assert [row["hardware"] for row in shown] == [H100, H100, L4, L4]


def test_quality_alone_belongs_to_every_machine() -> None:
    unlike = [run(0, "a", 300.0, (H100, 0)), run(1, "b", 60.0, (L4, 1))]
    untimed = run(2, "c", 1.0, (L4, 1))
    untimed.stages = [one for one in untimed.stages if one.stage != "bench"]
    rows = rows_of([dataclasses.replace(untimed), *unlike])
    assert [row.recipe for row in rows] == ["unquantized", "c", "a", "unquantized", "b"]
    assert [[row.recipe for row in own] for own in comparable_rows(rows).values()] == [
        ["unquantized", "c", "a"], ["c", "unquantized", "b"],
    ]  # fmt: skip
