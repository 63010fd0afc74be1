"""Builds the answer of a sweep from its records, prints it and writes its files.

As JSON, CSV and Markdown, as a page (HTML) and as figures.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.schema.decide import Decide
from runner.pipeline.experience.data_points import all_records
from runner.reporting.audited import audit_lines, audit_markdown, audited
from runner.reporting.capabilities.floors import answer_floors
from runner.reporting.capabilities.foretold import foretold
from runner.reporting.capabilities.levels import levels
from runner.reporting.capabilities.losses import losses
from runner.reporting.capabilities.show import show_capabilities
from runner.reporting.capacity import served
from runner.reporting.claims.decide import Decision, decide_claims
from runner.reporting.claims.show import claim_lines
from runner.reporting.generation import generation_lines, show_generation
from runner.reporting.kv_cache import additions, show_additions
from runner.reporting.markdown import markdown
from runner.reporting.page.build import build_page
from runner.reporting.page.figures import write_figures
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.plan import is_plan_only, print_plans, write_plans
from runner.reporting.predictions import comparisons, print_comparisons, write_comparisons
from runner.reporting.row import figure_names
from runner.reporting.rows import Row, rows_of
from runner.reporting.select import Selection, one_sweep, several_sweeps
from runner.reporting.sensitivity import show_sensitivities
from runner.reporting.served import served_lines
from runner.reporting.serving import print_serving
from runner.reporting.table import build_table, footnotes
from runner.reporting.verdict.decide import verdicts
from runner.reporting.verdict.show import show_verdicts
from runner.store.disk_errors import is_writable
from runner.store.files import write_text_atomically
from runner.store.records import RunRecord
from runner.store.shared import without_collection
from runner.util.serialise import to_json
from runner.util.shown import console as plain_console
from runner.util.shown import csv_rows, tell

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_WHEN_PIPED = 140
_MOST_LINES = 200
"""Of a model, on a terminal; the files have them all."""


def report(
    runs: Path,
    sweep: str | None,
    copies: Path | None,
    *,
    decide: Decide | None = None,
    page: bool = False,
    figures: bool = False,
    several: Sequence[str] = (),
) -> list[RunRecord]:
    """Print a sweep's answer to standard output and write it into its folder.

    Always as ``answer.json``, ``answer.csv`` and ``answer.md``. One answer over several sweeps is
    written into ``copies`` alone.

    Args:
        runs: The store's folder of records.
        sweep: Its id; the latest by default.
        copies: A folder for further copies of the files.
        decide: Limits and goal that the verdict is made by; where it says nothing, those of the
            sweep.
        page: Write ``report.html`` too.
        figures: Write ``figures/*.svg`` and ``*.png`` too.
        several: Sweeps, or runs of them, that are answered for together instead of ``sweep``.

    Raises:
        UsageError: There is no such sweep or run, or none at all.
    """
    with without_collection():
        asked = several_sweeps(runs, several) if several else one_sweep(runs, sweep)
        return _report(runs, asked, copies, decide, page=page, figures=figures)


def _report(
    runs: Path,
    asked: Selection,
    copies: Path | None,
    decide: Decide | None,
    *,
    page: bool,
    figures: bool,
) -> list[RunRecord]:
    records = asked.records
    rows = rows_of([record for record in records if not is_plan_only(record)])
    mark_best_tradeoffs(rows)
    # Without a bench there is nothing to predict, and the store may hold thousands of records.
    benched = any(stage.stage == "bench" for record in records for stage in record.stages)
    found = comparisons(records, all_records(runs, asked.read), runs.parent) if benched else []
    audits = audited(records, rows, lambda: all_records(runs, asked.read))
    found_verdicts = verdicts(rows, records, decide)
    subject = Subject(asked.name, records, rows, found, found_verdicts, audits)
    # A store that is full or closed is still read: what cannot be written is printed.
    wanted = [path for path in (asked.folder, copies) if path is not None]
    folders = [path for path in wanted if is_writable(path)]
    # A sweep of plans alone has no measurements to draw.
    html = build_page(subject, runs.parent / "cache") if page and rows and folders else None
    decisions = decide_claims(records)
    if folders:
        _write(subject, decisions, html, folders)
        if figures and rows:
            _draw(subject, folders)
    write_plans(records, folders)
    write_comparisons(found, folders)
    console = _console()
    _print(subject, decisions, console)
    where = asked.folder or (folders[-1] if folders else None)
    if where is not None:
        files = (
            "answer.json and answer.csv"
            if asked.folder is None
            else "answer.json, answer.csv and records"
        )
        console.print(f"{files}: {where}", soft_wrap=True)
    show_sensitivities(records, folders, console)
    if html is not None:
        tell(f"report (open in a browser): {folders[-1] / 'report.html'}")
    elif not page and rows:
        tell("for a page to open in a browser: runner report")
    return records


def _write(
    subject: Subject, decisions: list[Decision], html: str | None, folders: list[Path]
) -> None:
    rows = subject.rows
    answer = {
        "sweep": subject.sweep,
        "verdict": to_json(subject.verdicts),
        "rows": [row.content() for row in rows],
        "claims": to_json(decisions),
        "serving": to_json(served(subject.records)),
        "audits": subject.audits,
        "additions": to_json(additions(subject.records)),
        "generation": to_json(generation_lines(subject.records, rows)),
        "capabilities": {
            "levels": to_json(levels(subject.records)),
            "losses": to_json(lost := losses(subject.records)),
            "floors": to_json(answer_floors(subject.records)),
            "foretold": to_json(foretold(lost)),
        },
    }
    content = {
        "answer.json": json.dumps(answer, indent=2) + "\n",
        "answer.csv": _csv(rows),
        "answer.md": markdown(rows, subject.records, decisions, subject.verdicts)
        + audit_markdown(subject.audits),
        **({} if html is None else {"report.html": html}),
    }
    for path in folders:
        for name, text in content.items():
            write_text_atomically(path / name, text)


def _draw(subject: Subject, folders: list[Path]) -> None:
    drawn = write_figures(subject.row_dicts(), folders[0] / "figures", served(subject.records))
    for path in folders[1:]:
        (path / "figures").mkdir(exist_ok=True)
        for one in drawn:
            shutil.copyfile(one, path / "figures" / one.name)


def _csv(rows: list[Row]) -> str:
    names = figure_names(rows)
    contents = (row.content() for row in rows)
    return csv_rows([names, *([one.get(name) for name in names] for one in contents)])


def _console() -> "Console":
    console = plain_console()
    if console.is_terminal:
        return console
    return plain_console(width=_WIDTH_WHEN_PIPED)


def _print(subject: Subject, decisions: list[Decision], console: "Console") -> None:
    rows, records = subject.rows, subject.records
    # Broken between words for a person, left whole for programs.
    whole = not console.is_terminal
    for model in dict.fromkeys(row.model for row in rows):
        of_model = [row for row in rows if row.model == model]
        console.print(f"\n{model}", style="bold")
        show_verdicts([one for one in subject.verdicts if one.model == model], console)
        told = of_model
        if len(of_model) > _MOST_LINES:
            told = [row for row in of_model if row.is_baseline or row.best_tradeoff]
        console.print(build_table(told, console.width))
        if left := len(of_model) - len(told):
            console.print(f"{left} of {len(of_model)} rows are in answer.csv only.")
        for note in footnotes(of_model):
            console.print(note, soft_wrap=whole)
        for line in served_lines(of_model):
            # A command that is broken into lines cannot be copied.
            console.print(line, soft_wrap=True)
        print_serving([r for r in records if r.model == model], console, whole)
        show_additions(additions([r for r in records if r.model == model]), console)
        show_capabilities([r for r in records if r.model == model], console)
        show_generation(generation_lines(records, told), console)
    for line in audit_lines(subject.audits, None if whole else console.width):
        console.print(line, soft_wrap=True)
    for line in claim_lines(decisions):
        console.print(line, soft_wrap=whole)
    print_plans(records, console)
    if any(record.config.get("plan", {}).get("show_measured") for record in records):
        print_comparisons(subject.comparisons, console)
