"""A plan as a table, JSON and CSV."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.pipeline.stages.plan import STAGE as PLAN
from runner.planning.option import Feasibility, Option, Range
from runner.planning.recommendation import cautions, reasons, where
from runner.planning.result import PlanResult
from runner.store.files import write_json_atomically, write_text_atomically
from runner.store.records import RunRecord
from runner.util.serialise import to_json
from runner.util.shown import csv_rows

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ABSENT = "-"
_SHORT = {
    Feasibility.meets: "",
    Feasibility.unproven: "unproven",
    Feasibility.quality_risk: "quality",
    Feasibility.too_slow: "slow",
    Feasibility.does_not_fit: "no fit",
    Feasibility.unsupported: "no engine",
    Feasibility.impossible: "no",
}


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
    "kv_tokens",
)


def print_plans(records: Sequence[RunRecord], console: "Console") -> None:
    """Print each plan: the table, the decision in a sentence, and why the rest were ruled out."""
    for record, plan in plans_of(records):
        objective = ""
        if plan.latency_seconds is not None:
            objective += f", at most {1e3 * plan.latency_seconds:g} ms per token"
        if plan.tokens_per_day is not None:
            objective += f", {plan.tokens_per_day / 1e6:g} M tokens per day"
        console.print(
            f"\nplan {plan.model}: {plan.parameters / 1e9:.2f} B parameters, "
            f"{plan.context_length}-token sequences{objective}",
            style="bold",
            soft_wrap=True,
        )
        rows = record.config["plan"]["rows"]
        console.print(plan_table(plan, rows))
        console.print(plan.recommendation, soft_wrap=True)
        lines = reasons(plan.options)
        if lines:
            console.print("Why the others were ruled out:", style="bold")
        for line in lines[:rows]:
            console.print(f"  {line}", soft_wrap=True)
        if len(lines) > rows:
            console.print(f"  and {len(lines) - rows} more, in plan.csv", soft_wrap=True)
        for note in [*cautions(plan.options[:rows]), *plan.notes]:
            console.print(f"! {note}", soft_wrap=True)
        sources = sorted({o.source for o in plan.options if o.source})
        console.print(
            "All figures are predicted; ranges [low, high] from " + " | ".join(sources),
            soft_wrap=True,
        )


def plan_table(plan: PlanResult, rows: int) -> "Table":
    """The first options: size, room, time of a token, and what serving costs."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("recipe", no_wrap=True)
    table.add_column("devices", no_wrap=True)
    for head in (
        "weights\nGB",
        "KV room\ntokens",
        f"ms/token, {plan.concurrency} at once\n[low, high]",
        "bound\nms",
        "prefill\nms",
        "serves tok/s\n@ batch",
        "$/M tok\nbusy",
        "$/month\n(devices)",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for option in plan.options[:rows]:
        table.add_row(
            option.recipe,
            where(option),
            f"{option.weight_bytes / 1e9:.1f}",
            _thousands(option.kv_capacity_tokens),
            _range(option.time_per_output_token_seconds),
            _milli(option.bound_decode_seconds),
            _milli(option.prefill_seconds.expected if option.prefill_seconds else None),
            _served(option),
            _dollars(
                option.cost_per_million_tokens.expected if option.cost_per_million_tokens else None,
                2,
            ),
            _monthly(option),
            _SHORT[option.verdict],
            style=None if option.verdict is Feasibility.meets else "dim",
        )
    return table


def _thousands(tokens: int) -> str:
    return f"{tokens / 1000:.1f}k" if tokens else _ABSENT


def _range(value: Range | None) -> str:
    if value is None:
        return _ABSENT
    low, middle, high = (f"{1e3 * v:.3g}" for v in (value.low, value.expected, value.high))
    return f"{middle} [{low}, {high}]"


def _milli(seconds: float | None) -> str:
    return _ABSENT if seconds is None else f"{1e3 * seconds:.3g}"


def _served(option: Option) -> str:
    if option.served_tokens_per_second is None:
        return _ABSENT
    return f"{option.served_tokens_per_second.expected:,.0f} @ {option.served_concurrency}"


def _dollars(value: float | None, digits: int = 0) -> str:
    return _ABSENT if value is None else f"{value:,.{digits}f}"


def _monthly(option: Option) -> str:
    if option.devices_needed is None:
        return _ABSENT
    return f"{_dollars(option.monthly_cost)} ({option.devices_needed})"
