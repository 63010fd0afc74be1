"""Names, labels, paths, reasons: whatever is in them is shown and never interpreted."""

import csv
import io
from pathlib import Path

import pytest

from runner.errors import complain
from runner.evaluation.metrics.statistics import Interval
from runner.pipeline.stages.sensitivity import SensitivityResult
from runner.reporting.display import Display
from runner.reporting.display.run_log import RunLog
from runner.reporting.heat_map import draw_heat_map
from runner.reporting.report import report
from runner.store.records import Status, write_record
from runner.util.serialise import from_json
from runner.util.shown import console, csv_rows, printable, tell
from tests.unit.records import BASE, recipe, record

HOSTILE = (
    "[bold]a[/bold]", "[/]", "[/nothing]", ":smile:", "a|b", "`a`", "=cmd()",
    "<script>alert(1)</script>", "+1+1", "@SUM(1)", "-2+3", "$x$", "[a](http://x)", "~~a~~",
    "${x}", "{a}", "%s", "*a*", "[link=http://x]a[/link]", "\\[a\\]", "a\\",
)  # fmt: skip
CONTROLS = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "a\rb",
    "a\x08b",
    "a\x9bb",
    "\u202eabc",
    "\udcff",
    "\0",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_looks_like_markup_is_printed_as_it_is(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.table import Table

    table = Table(title=text, show_header=True)
    table.add_column(text, no_wrap=True)
    table.add_row(text)
    console(width=200, force_terminal=True, color_system=None).print(table, text)
    tell(text)
    complain(text)
    Display().line(text)
    said = capsys.readouterr()
    assert said.out.count(text) == 5
    assert said.err.count(text) == 2


@pytest.mark.parametrize("text", CONTROLS)
def test_what_controls_a_terminal_is_spelled_out(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tell(text)
    complain(text)
    Display().line(text)
    console().print(text)
    RunLog(tmp_path).write(text)
    said = capsys.readouterr()
    for shown in (said.out + said.err, (tmp_path / "run.log").read_text("utf-8")):
        assert not any(control in shown for control in "\x1b\x07\r\x08\x9b\u202e\udcff\0")
        assert "\\x" in shown or "\\u" in shown


def test_accents_emoji_and_lines_stay() -> None:
    text = "Modèle 模型 👩\u200d🔬\tof\ntwo lines"
    assert printable(text) == text


def test_no_spreadsheet_takes_a_text_for_a_formula() -> None:
    rows = [["=cmd()", "+1+1", "@a", "-b", "\ta"], ["-1.5", "+2", 3, None, "plain"]]
    first, second = csv.reader(io.StringIO(csv_rows(rows)))
    assert first == ["'=cmd()", "'+1+1", "'@a", "'-b", "'\ta"]
    assert second == ["-1.5", "+2", "3", "", "plain"]


def test_an_answer_shows_hostile_names_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, copies = tmp_path / "runs", tmp_path / "copies"
    write_record(runs, record(0, "none-bf16", BASE, model="[bold]m[/]"))
    for number, label in enumerate(HOSTILE, 1):
        one = recipe(number, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)
        one.label, one.model = label, "[bold]m[/]"
        write_record(runs, one)
    failed = record(99, "rtn", [], model="[bold]m[/]", status=Status.failed)
    failed.reason = "\x1b[31m[/red] killed | <b>"
    write_record(runs, failed)
    report(runs, None, copies, page=True)
    said = capsys.readouterr()
    shown = said.out + said.err
    assert "[bold]m[/]" in shown
    assert "\\x1b[31m[/red] killed | <b>" in shown
    assert "\x1b" not in shown
    for label in HOSTILE:
        assert label in shown
    markdown = (copies / "answer.md").read_text("utf-8")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    bars = {line.replace("\\|", "").count("|") for line in table}
    assert len(bars) == 1, "no label ends a cell"
    assert "<script" not in markdown.replace("\\<", "")
    assert "[a](" not in markdown.replace("\\[", "")
    with (copies / "answer.csv").open(newline="") as stream:
        recipes = {row["recipe"] for row in csv.DictReader(stream)}
    assert {"'=cmd()", "'@SUM(1)", "a|b"} <= recipes
    page = (copies / "report.html").read_text("utf-8")
    assert "<script>alert(1)" not in page


def test_a_chart_takes_no_layer_for_a_formula() -> None:
    unit = {"name": "a", "kind": r"$\frac{", "block": 0, "weights": 4, "layers": ["a"]}
    interval = vars(Interval(0.1, 0.05, 0.2))
    content = {
        "protocol": "p", "grain": "linear", "tokens_scored": 4, "perplexity": 2.0, "units": [unit],
        "rows": [{"unit": "a", "rounding": "w4a16-g64", "num_bits": 4, "kl_divergence": interval,
                  "perplexity_delta": interval, "perplexity": 2.1}],
    }  # fmt: skip
    assert draw_heat_map(from_json(SensitivityResult, content)).startswith(b"\x89PNG")
