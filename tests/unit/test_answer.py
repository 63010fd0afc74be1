"""The answer: rows from records, the best trade-offs, table, JSON and CSV."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.errors import UsageError
from runner.methods import find_method
from runner.reporting.comparable import comparable_rows
from runner.reporting.markdown import markdown
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.quality.answered import Answered, TaskScore
from runner.reporting.report import report
from runner.reporting.rows import Row, rows_of
from runner.reporting.table import build_table, footnotes
from runner.store.records import RunRecord, StageRecord, Status, write_record
from runner.util.serialise import to_json
from tests.unit.records import content_of, measured, whole
from tests.unit.records import recipe as whole_recipe

pytestmark = pytest.mark.unit

BASE_PERPLEXITY, BASE_SPEED, BASE_BYTES = 20.0, 40.0, 270_000_000


def interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def quantize(bits: float, size: int) -> dict[str, Any]:
    return {"bits_per_weight": bits, "checkpoint_bytes": size}


def evaluation(perplexity: float, compared: bool = True) -> dict[str, Any]:
    change = {
        "baseline": BASE_PERPLEXITY,
        "delta": interval(perplexity - BASE_PERPLEXITY, 0.5),
        "ratio": interval(perplexity / BASE_PERPLEXITY, 0.025),
    }
    losses = [math.log(perplexity) + shift for shift in (0.3, 0.0, -0.3)]
    return {
        "perplexity": {"protocol": "gptq_512", "value": perplexity, "window_losses": losses},
        "change": change if compared else None,
    }


def bench(speed: float, size: int) -> dict[str, Any]:
    def summary(value: float) -> dict[str, float]:
        return {"mean": value, "sd": 0.1 * value}

    batches = [
        {
            "batch_size": batch,
            "decode_tokens_per_second": summary(speed * batch),
            "time_to_first_token_seconds": summary(0.2),
            "memory_bandwidth_utilization": 0.5,
        }
        for batch in (1, 4)
    ]
    return {
        "batches": batches,
        "checkpoint_bytes": size,
        "device_peak_memory_bytes": None,
        "peak_memory_bytes": 2 * size,
        "footprint": {"weight_bytes_by_dtype": {"bfloat16": size}},
    }


def record(number: int, label: str, stages: list[tuple[str, str, dict[str, Any]]]) -> RunRecord:
    return RunRecord(
        sweep="demo",
        run=f"{number:03d}-{label}",
        label=label,
        model="small",
        engine="hf",
        status=Status.ok,
        reason=None,
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        overrides=[],
        config={},
        stages=[
            StageRecord(s, subject, "key", False, 1.0, "default", {}, whole(s, r))
            for s, subject, r in stages
        ],
    )


def baseline() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("eval", "baseline", evaluation(BASE_PERPLEXITY, compared=False)),
        ("bench", "baseline", bench(BASE_SPEED, BASE_BYTES)),
    ]


def recipe(number: int, label: str, bits: float, perplexity: float, speed: float) -> RunRecord:
    size = int(BASE_BYTES * bits / 16)
    own = [
        ("quantize", "recipe", quantize(bits, size)),
        ("eval", "recipe", evaluation(perplexity)),
        ("bench", "recipe", bench(speed, size)),
    ]
    return record(number, label, baseline() + own)


@pytest.fixture
def records() -> list[RunRecord]:
    skipped = record(4, "gptq-nf4-g64", [])
    skipped.status, skipped.reason = Status.skipped, "method=gptq cannot make nf4"
    failed = record(5, "gptq-w2a16-g64", baseline())
    failed.status, failed.reason = Status.failed, "killed by signal 9"
    return [
        record(0, "none-bf16", baseline()),
        recipe(1, "gptq-w4a16-g64", bits=4, perplexity=21.0, speed=60.0),
        # Larger, worse and slower than gptq: dominated.
        recipe(2, "rtn-w4a16-g64", bits=4.5, perplexity=23.0, speed=55.0),
        recipe(3, "rtn-w8a16-g64", bits=8, perplexity=20.1, speed=50.0),
        skipped,
        failed,
    ]


def test_one_row_a_run_and_the_unquantized_model_once(records: list[RunRecord]) -> None:
    rows = rows_of(records)
    assert [row.recipe for row in rows] == [
        "unquantized",
        "gptq-w4a16-g64",
        "rtn-w4a16-g64",
        "rtn-w8a16-g64",
        "gptq-nf4-g64",
        "gptq-w2a16-g64",
    ]
    assert [row.is_baseline for row in rows] == [True] + [False] * 5


def test_a_row_carries_the_runs_numbers(records: list[RunRecord]) -> None:
    row = rows_of(records)[1]
    assert (row.run, row.status) == ("001-gptq-w4a16-g64", "ok")
    assert (row.bits_per_weight, row.checkpoint_bytes) == (4, BASE_BYTES // 4)
    assert (row.perplexity, row.perplexity_protocol) == (21.0, "gptq_512")
    change = (row.perplexity_delta_low, row.perplexity_delta, row.perplexity_delta_high)
    assert change == (0.5, 1.0, 1.5)
    assert row.perplexity_ratio == pytest.approx(1.05)
    assert (row.batch_size, row.decode_tokens_per_second, row.decode_ratio) == (1, 60.0, 1.5)
    assert row.peak_memory_bytes == BASE_BYTES // 2


def test_the_baselines_row_compares_with_nothing(records: list[RunRecord]) -> None:
    row = rows_of(records)[0]
    assert row.perplexity == BASE_PERPLEXITY
    assert row.perplexity_delta is None
    assert row.decode_ratio == 1.0
    assert row.checkpoint_bytes == BASE_BYTES


def test_the_baseline_is_pieced_together_from_several_runs() -> None:
    only_eval = record(0, "a", [("eval", "baseline", evaluation(BASE_PERPLEXITY, False))])
    rows = rows_of([only_eval, recipe(1, "b", bits=4, perplexity=21.0, speed=60.0)])
    assert [row.is_baseline for row in rows] == [True, False]
    assert rows[0].perplexity == BASE_PERPLEXITY
    assert rows[0].decode_tokens_per_second == BASE_SPEED


def test_two_models_have_a_baseline_each(records: list[RunRecord]) -> None:
    other = recipe(6, "gptq-w4a16-g64", bits=4, perplexity=21.0, speed=60.0)
    other.model = "large"
    baselines = [row.model for row in rows_of([*records, other]) if row.is_baseline]
    assert baselines == ["small", "large"]


def test_runs_without_a_result_say_why(records: list[RunRecord]) -> None:
    rows = rows_of(records)
    assert (rows[4].status, rows[4].reason) == ("skipped", "method=gptq cannot make nf4")
    assert (rows[5].status, rows[5].reason) == ("failed", "killed by signal 9")
    assert rows[5].perplexity is None, "what a failed run took from the baseline is not its own"
    notes = footnotes(rows)
    assert "gptq-nf4-g64 skipped: method=gptq cannot make nf4" in notes
    assert "gptq-w2a16-g64 failed: killed by signal 9" in notes


def test_the_dominated_are_not_marked(records: list[RunRecord]) -> None:
    rows = rows_of(records)
    mark_best_tradeoffs(rows)
    best = [row.recipe for row in rows if row.best_tradeoff]
    assert best == ["unquantized", "gptq-w4a16-g64", "rtn-w8a16-g64"]


def row(name: str, size: int | None, perplexity: float | None, speed: float | None) -> Row:
    found = Row(name, "small", "hf", "ok", None, name)
    found.checkpoint_bytes, found.perplexity = size, perplexity
    found.decode_tokens_per_second = speed
    found.evaluated = None if perplexity is None else measured(perplexity)
    return found


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row("a", 1, 2.0, 3.0), row("b", 1, 2.0, 3.0)], "ab"),
        ([row("a", 1, 2.0, 3.0), row("b", 1, 2.0, 2.9)], "a"),
        ([row("a", 1, 2.0, 3.0), row("b", 1, 2.1, 3.1)], "ab"),
        # Nobody was benched: size and quality decide.
        ([row("a", 1, 2.0, None), row("b", 2, 2.5, None), row("c", 2, 1.5, None)], "ac"),
        # One lacks what the others have: it cannot be called best.
        ([row("a", 1, 2.0, 3.0), row("b", 1, 1.0, None)], "a"),
        ([row("a", None, None, None)], ""),
        ([row("a", 5, 9.0, 1.0)], "a"),
    ],
)
def test_who_is_dominated(rows: list[Row], best: str) -> None:
    mark_best_tradeoffs(rows)
    assert "".join(r.recipe for r in rows if r.best_tradeoff) == best


def test_a_speed_within_noise_is_the_unquantized_models() -> None:
    rows = [row("dense", 9, 2.0, 3.0), row("a", 1, 3.0, 2.9), row("b", 1, 4.0, 3.1)]
    rows[0].is_baseline = True
    mark_best_tradeoffs(rows)
    assert [found.recipe for found in rows if found.best_tradeoff] == ["dense", "a", "b"]
    rows[2].decode_within_noise = True
    mark_best_tradeoffs(rows)
    # What is told from the unquantized model's keeps its own speed.
    assert [found.recipe for found in rows if found.best_tradeoff] == ["dense", "a", "b"]
    rows[1].decode_within_noise = True
    mark_best_tradeoffs(rows)
    assert [found.recipe for found in rows if found.best_tradeoff] == ["dense", "a"]


def test_without_perplexity_right_answers_are_the_quality() -> None:
    rows = [row("a", 1, None, None), row("b", 2, None, None), row("c", 2, None, None)]
    for found, accuracy in zip(rows, (0.48, 0.71, 0.47), strict=True):
        right = "".join("1" if item / 100 < accuracy else "0" for item in range(100))
        found.task_accuracy = accuracy
        found.answered = Answered(
            "f", ("0",), {"t": TaskScore(accuracy, "d", (right,), None, None)}
        )
    mark_best_tradeoffs(rows)
    assert [found.recipe for found in rows if found.best_tradeoff] == ["a", "b"]
    rows[2].perplexity = 3.0
    mark_best_tradeoffs(rows)
    assert [found.recipe for found in rows if found.best_tradeoff] == ["c"]


def on(text: str, found: Row) -> Row:
    found.text, found.perplexity_protocol = text, "gptq_256"
    return found


def test_texts_are_judged_apart() -> None:
    """An easy text does not make a recipe look good; size and speed compare whatever the text."""
    easy = [on("easy", row("a", 2, 2.0, None)), on("easy", row("b", 1, 3.0, None))]
    hard = [on("hard", row("c", 2, 9.0, None)), on("hard", row("d", 3, 9.5, None))]
    rows = [*easy, *hard, row("e", 9, None, 5.0)]
    mark_best_tradeoffs(rows)
    # Only one row was benched, and it has no quality.
    assert not any(found.best_tradeoff for found in rows)
    mark_best_tradeoffs([*easy, *hard])
    assert [found.recipe for found in rows if found.best_tradeoff] == ["a", "b", "c"]
    assert {name: [r.recipe for r in found] for name, found in comparable_rows(rows).items()} == {
        "small on easy": ["a", "b", "e"],
        "small on hard": ["c", "d", "e"],
    }
    assert list(comparable_rows(easy)) == ["small"]


def test_report_prints_a_table_and_writes_json_and_csv(
    records: list[RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, copies = tmp_path / "runs", tmp_path / "copies"
    for entry in records:
        write_record(runs, entry)
    assert report(runs, None, copies) == records
    printed = capsys.readouterr().out
    for fragment in (
        "small",
        "★ ",
        "gptq-w4a16-g64",
        "67.5",
        "21.000",
        "+1.00 [+0.50, +1.50]",
        "60.0 (1.50x)",
        "gptq_512",
        "gptq-nf4-g64 skipped: method=gptq cannot make nf4",
        str(runs / "demo"),
    ):
        assert fragment in printed
    for folder in (runs / "demo", copies):
        answer = json.loads((folder / "answer.json").read_text())
        assert answer["sweep"] == "demo"
        assert [r["recipe"] for r in answer["rows"]] == [r.recipe for r in rows_of(records)]
        with (folder / "answer.csv").open(newline="") as stream:
            table = list(csv.DictReader(stream))
        assert len(table) == len(answer["rows"])
        assert table[1]["perplexity"] == "21.0"
        assert table[1]["best_tradeoff"] == "True"
        assert table[4]["reason"] == "method=gptq cannot make nf4"
        assert table[4]["perplexity"] == ""


def test_of_very_many_rows_the_best_are_printed(
    records: list[RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for entry in records:
        write_record(tmp_path, entry)
    monkeypatch.setattr("runner.reporting.report._MOST_LINES", 6)
    report(tmp_path, None, None)
    assert "rtn-w4a16-g64 " in capsys.readouterr().out
    monkeypatch.setattr("runner.reporting.report._MOST_LINES", 5)
    report(tmp_path, None, None)
    printed = capsys.readouterr().out
    assert "3 of 6 rows are in answer.csv only." in printed
    table = printed.partition("3 of 6 rows")[0].partition("bits/")[2]
    assert "rtn-w4a16-g64 " not in table
    assert all(name in table for name in ("unquantized", "gptq-w4a16-g64", "rtn-w8a16-g64"))


def test_a_large_perplexity_has_four_digits(records: list[RunRecord]) -> None:
    rows = rows_of(records)
    rows[1].perplexity, rows[2].perplexity = 9_999.5, 12_345.6
    cells = [*next(c for c in build_table(rows).columns if "perpl" in str(c.header)).cells]
    assert cells[:4] == ["20.000", "9999.500", "1.235e+04", "20.100"]


def test_report_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records yet"):
        report(tmp_path, None, None)
    write_record(tmp_path, record(0, "a", baseline()))
    with pytest.raises(UsageError, match="no records of sweep other; latest: demo"):
        report(tmp_path, "other", None)


@pytest.mark.parametrize(
    ("label", "method", "bits", "engine", "device", "marked"),
    [
        ("gptq-w4a16", "gptq", "int", "hf", "cuda", True),
        ("nf4", "bnb_4bit", "normal_float", "hf", "cuda", False),
        ("gptq-w4a16", "gptq", "int", "vllm", "cuda", False),
        ("gptq-w4a16", "gptq", "int", "hf", "cpu", False),
    ],
)
def test_a_speed_of_dequantized_weights_is_marked_on_a_gpu(
    label: str, method: str, bits: str, engine: str, device: str, marked: bool
) -> None:
    made = whole_recipe(0, label, 21.0, 50.0, 10**8, engine=engine)
    names = find_method(method).config(name=method)
    made.config["method"] = to_json(names)
    made.config["bits"] = to_json(Bits(NumberFormat(NumberType(bits), 4)))
    made.config["group_size"] = {"granularity": "group", "size": 64}
    for subject in ("baseline", "recipe"):
        content_of(made, "bench", subject)["device"] = device
    rows = rows_of([made])
    cells = [*next(c for c in build_table(rows).columns if "decode" in str(c.header)).cells]
    assert [("†" in str(cell)) for cell in cells] == [False, marked]
    assert any("measured on dequantized weights" in note for note in footnotes(rows)) == marked
    assert ("50.0†" in markdown(rows, [made], [])) == marked
