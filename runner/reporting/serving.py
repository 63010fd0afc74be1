"""Latency and throughput at the engines' servers, and how many users they hold, as tables."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.evaluation.metrics.statistics import Summary
from runner.evaluation.serving.level import Level
from runner.pipeline.stages.serving import STAGE as SERVING
from runner.reporting.capacity import Curve, Served, served
from runner.store.records import BASELINE, RunRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

HEAD = (
    "served", "engine", "users", "breaks at", "tok/s a user", "tok/s a device", "$/M tokens",
)  # fmt: skip
UNSURE = (
    "~ too few requests to be 95% sure of the number of users: more serving.requests would tell"
)


def print_serving(records: list[RunRecord], console: "Console", whole: bool) -> None:
    """What a model's servers did, level by level and within the objective; whom they are not for.

    Args:
        records: Of one model.
        console: Where to.
        whole: Whether lines are left to the reader's program to break.
    """
    from rich import box
    from rich.table import Table

    levels = build_serving_table(records)
    if levels is not None:
        console.print(levels)
    found = served(records)
    if found is None:
        return
    for title, curves in _searched(found.curves):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for n, name in enumerate(HEAD):
            # Of the rates the unit stands on a line of its own.
            head = name.replace(" a ", "\na ").replace("/M ", "/M\n")
            table.add_column(head, justify="left" if n < 2 else "right", no_wrap=True)
        for curve in curves:
            table.add_row(*capacity_cells(curve))
        console.print(title, soft_wrap=whole)
        console.print(table)
        if any(curve.capacity and not curve.capacity.sure for curve in curves):
            console.print(UNSURE, soft_wrap=whole)
    for line in left_out_lines(found):
        console.print(line, soft_wrap=whole)


def capacity_cells(curve: Curve) -> tuple[str, ...]:
    """The cells of ``HEAD``: at the most users within the objective."""
    capacity, at, broken = curve.capacity, curve.largest, curve.broken
    assert capacity is not None
    mark = "" if capacity.sure else "~"
    breaks = "-"
    if broken is not None:
        limit = broken.missed_most or "failed"
        breaks = f"{mark}{broken.concurrency} ({limit}, {broken.attainment or 0:.0%} good)"
    if at is None:
        return curve.recipe, curve.engine, f"{mark}0", breaks, "-", "-", "-"
    price = at.dollars_per_million_tokens
    return (
        curve.recipe,
        curve.engine,
        f"{mark}{at.concurrency}" + ("" if broken is not None else " or more"),
        breaks,
        f"{at.tokens_per_second_per_user:.1f}",
        f"{at.tokens_per_second_per_device:.1f}",
        "-" if price is None else f"{price:.3g}",
    )


def _searched(curves: list[Curve]) -> Iterator[tuple[str, list[Curve]]]:
    """Curves whose capacity was searched for, with what it was on: those that compare together."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        if curve.capacity is not None:
            groups.setdefault((curve.objective, curve.machine), []).append(curve)
    for (objective, machine), together in groups.items():
        yield f"most users within {objective} on {machine}", together


def searched_parts(found: Served) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Titles and lines of the tables, for other forms than a terminal."""
    for title, curves in _searched(found.curves):
        yield title, [capacity_cells(curve) for curve in curves]


def left_out_lines(found: Served) -> list[str]:
    """A sentence for each recipe that was not served."""
    return [f"not served: {one.recipe} on {one.engine}: {one.reason}" for one in found.left_out]


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
            result = record.read(stage, SERVING)
            levels = result.levels if result is not None else []
            # In the order of users, which is not that of a search.
            levels = sorted(levels, key=lambda level: level.concurrency or math.inf)
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
