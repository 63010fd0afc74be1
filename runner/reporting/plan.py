"""A plan as a table, JSON and CSV."""

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.pipeline.stages.plan import STAGE as PLAN
from runner.planning.option import Feasibility, Option
from runner.planning.phrases import count, missed, seconds
from runner.planning.reasons import cautions, reasons
from runner.planning.result import PlanResult
from runner.planning.stated_errors import said
from runner.reporting.plan_table import plan_table, shown
from runner.store.files import write_json_atomically, write_text_atomically
from runner.store.records import RunRecord
from runner.util.serialise import to_json
from runner.util.shown import csv_rows

if TYPE_CHECKING:
    from rich.console import Console

_LABELLED = re.compile(r"  [A-Za-z]* +")
"""A line of a recommendation, up to what it says."""
_WIDTH = 80
"""Where there is no terminal."""
_LOAD = (
    "TTFT: time to the first token, with the wait for others' prompts and for room. ITL: from a "
    "token to the next; others' prompts are prefilled in chunks between steps, and slow it down."
)


def plans_of(records: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, PlanResult]]:
    """The plans among a sweep's runs."""
    for record in records:
        if (plan := record.result(PLAN)) is not None:
            yield record, plan


def is_plan_only(record: RunRecord) -> bool:
    """Whether a run did nothing but plan, so that it has no row of measurements."""
    return bool(record.stages) and all(entry.stage == PLAN.name for entry in record.stages)


def write_plans(records: Sequence[RunRecord], folders: Sequence[Path]) -> None:
    """Write ``plan.json`` and ``plan.csv``: every option of every plan of a sweep."""
    plans = list(plans_of(records))
    if not plans:
        return
    rows = [
        {"run": record.run, "model": plan.model, **flat(option)}
        for record, plan in plans
        for option in plan.options
    ]
    table = csv_rows([[*rows[0]], *([*row.values()] for row in rows)]) if rows else ""
    content = [{"run": record.run, **to_json(plan)} for record, plan in plans]
    for folder in folders:
        write_json_atomically(folder / "plan.json", {"plans": content})
        write_text_atomically(folder / "plan.csv", table)


def flat(option: Option) -> dict[str, Any]:
    """An option with its ranges as three columns each."""
    row: dict[str, Any] = {}
    for name, value in vars(option).items():
        if name in _RANGES:
            for case in ("low", "expected", "high"):
                row[f"{name}_{case}"] = None if value is None else getattr(value, case)
        else:
            row[name] = value.value if isinstance(value, Feasibility) else value
    row["misses"] = "; ".join(map(missed, option.misses))
    row["warnings"] = "; ".join(option.warnings)
    parts = option.memory_bytes_per_device.items()
    row["memory_bytes_per_device"] = "; ".join(f"{name} {size:.0f}" for name, size in parts)
    return row


_RANGES = (
    "kv_tokens",
    "time_per_output_token_seconds",
    "time_to_first_token_seconds",
    "prefill_seconds",
    "tokens_per_second",
    "served_tokens_per_second",
    "cost_per_million_tokens",
)


def print_plans(records: Sequence[RunRecord], console: "Console") -> None:
    """Print each plan: the table, the decision, why the rest were ruled out, and what to do next.

    Sentences are broken by terminals alone, for programs they are whole; a table fits 80 columns
    where there is no terminal that is wider.
    """
    for record, plan in plans_of(records):
        _print_plan(plan, record.config["plan"]["rows"], console)


def _print_plan(plan: PlanResult, rows: int, console: "Console") -> None:
    console.print()
    _say(console, f"plan {_heading(plan)}", "bold")
    width = console.width if console.is_terminal else min(console.width, _piped_width())
    options = shown(plan, rows)
    console.print(plan_table(plan, options, width))
    console.print()
    for line in plan.recommendation.splitlines():
        label = _LABELLED.match(line)
        _say(console, line, hanging=len(label[0]) if label else None)
    if lines := reasons(plan.options):
        console.print("Why the others were ruled out:", style="bold")
    for line in lines[:rows]:
        _say(console, f"  {line}")
    if len(lines) > rows:
        _say(console, f"  and {len(lines) - rows} more reasons, in plan.csv")
    for note in [*cautions(options), *plan.notes]:
        _say(console, f"! {note}")
    _say(console, _LOAD)
    if plan.errors:
        _say(console, "All figures are predicted. Of such predictions:")
    regimes = {(o.regime, o.first_token_regime) for o in options}
    known = {name for pair in regimes for name in pair}
    for error in plan.errors:
        if error.regime in known:
            _say(console, f"  {said(error)}")
    for command in plan.commands:
        _say(console, f"{command.about}:", "bold")
        # Whole, so that it can be copied.
        console.print(f"  {command.line}", soft_wrap=True)


def _say(
    console: "Console", line: str, style: str | None = None, hanging: int | None = None
) -> None:
    """Print a line: broken between words for a person, left whole for programs.

    Args:
        console: Where to.
        line: Without breaks.
        style: Of rich.
        hanging: Blanks before what goes on; by default two more than before the line.
    """
    if console.is_terminal and len(line) > console.width:
        before = len(line) - len(line.lstrip()) + 2 if hanging is None else hanging
        line = textwrap.fill(
            line,
            console.width,
            subsequent_indent=" " * before,
            break_long_words=False,
            break_on_hyphens=False,
        )
    console.print(line, style=style, soft_wrap=True)


def _heading(plan: PlanResult) -> str:
    asked = [f"{plan.concurrency} user{'s' if plan.concurrency > 1 else ''} at once"]
    asked.append(f"{plan.prompt_tokens} + {plan.context_length - plan.prompt_tokens} tokens")
    if plan.ttft_seconds is not None:
        asked.append(f"TTFT at most {seconds(plan.ttft_seconds)}")
    if plan.latency_seconds is not None:
        asked.append(f"ITL at most {seconds(plan.latency_seconds)}")
    if plan.tokens_per_day is not None:
        asked.append(f"{count(plan.tokens_per_day)} tokens a day")
    return f"{plan.model} ({plan.parameters / 1e9:.2f} B parameters): {', '.join(asked)}"


def _piped_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else _WIDTH
