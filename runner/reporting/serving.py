"""Latency and throughput at the engines' servers, as a table."""

from typing import TYPE_CHECKING

from runner.evaluation.metrics.statistics import Summary
from runner.evaluation.serving.load import Level
from runner.pipeline.stages.serving import STAGE as SERVING
from runner.store.records import BASELINE, RunRecord

if TYPE_CHECKING:
    from rich.table import Table


def build_serving_table(records: list[RunRecord]) -> "Table | None":
    """A line for every recipe, engine and level of load; ``None`` when nothing was served."""
    from rich import box
    from rich.table import Table

    lines = _lines(records)
    if not lines:
        return None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("served", "engine", "load"):
        table.add_column(title, no_wrap=True)
    for title in (
        "TTFT ms\np50 / p99",
        "TPOT ms\np50 / p99",
        "request s\np50 / p99",
        "output\ntok/s",
        "good\nreq/s",
        "failed",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def _lines(records: list[RunRecord]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    seen = set()
    for record in records:
        for stage in record.stages:
            if stage.stage != SERVING.name or (stage.key, record.engine) in seen:
                continue
            seen.add((stage.key, record.engine))
            name = "unquantized" if stage.subject == BASELINE else record.label
            served = record.read(stage, SERVING)
            levels = served.levels if served is not None else []
            lines += [(name, record.engine, *_cells(level)) for level in levels]
    return lines


def _cells(level: Level) -> tuple[str, ...]:
    load = f"{level.concurrency} at once"
    if level.concurrency is None:
        load = f"{level.arrival_rate:g} a second"
    good = level.goodput_requests_per_second
    return (
        load,
        _quantiles(level.time_to_first_token_seconds, 1e3, "{:.0f}"),
        _quantiles(level.time_per_output_token_seconds, 1e3, "{:.1f}"),
        _quantiles(level.request_latency_seconds, 1.0, "{:.2f}"),
        f"{level.output_tokens_per_second:.1f}",
        "-" if good is None else f"{good:.2f} ({level.attainment:.0%})",
        str(level.failed),
    )


def _quantiles(summary: Summary, factor: float, form: str) -> str:
    return " / ".join(form.format(value * factor) for value in (summary.p50, summary.p99))
