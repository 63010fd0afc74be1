"""The answer as a table for a terminal."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.evaluation.metrics.overlap import LARGE_SHARE
from runner.reporting.floor import answers_at_floor, at_floor
from runner.reporting.notes import SAME_SPEED, STAR, dense_mark, quality_notes
from runner.reporting.rows import Row, evaluated_on
from runner.reporting.timing import Protocol
from runner.store.records import Status

if TYPE_CHECKING:
    from rich.table import Table

_ABSENT = "-"


def build_table(rows: list[Row], width: int = 120) -> "Table":
    """Recipe, size, quality, speed, memory; the best trade-offs carry a star.

    Rows without a result are left to the footnotes. Columns that would not fit into ``width``
    characters are left out, the least telling first; the files have them all.
    """
    from rich import box
    from rich.table import Table

    rows = [row for row in rows if row.status == Status.ok.value]
    columns = _columns(rows)
    columns = _fitting(columns, _DISPENSABLE, width)
    if _width(columns) > width:
        columns = [_narrowed(column, rows) for column in columns]
        columns = _fitting(columns, _LAST, width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for column in columns:
        table.add_column(column.title, justify="left" if column.is_text else "right", no_wrap=True)
    for number in range(len(rows)):
        table.add_row(*(column.cells[number] for column in columns))
    return table


_DISPENSABLE = ("top_1", "memory", "bits", "quantized")
"""Columns that a narrow terminal goes without, in this order: the loss with its interval, and the
KL divergence, which is steadier, are what the answer is judged by."""
_LAST = ("arithmetic", "protocol", "perplexity", "size")
"""Those that it goes without where shorter words do not help: a change in percent needs no value
beside it."""
_SHORT = {"checkpoint": "size", "perplexity": "perpl.", "decode tok/s": "tok/s"}
"""Titles where even that is too wide."""


@dataclass(frozen=True)
class _Column:
    key: str
    title: str
    cells: list[str]
    is_text: bool = False

    @property
    def width(self) -> int:
        """Characters of the widest line."""
        lines = [*self.title.split("\n"), *self.cells]
        return max(len(line) for line in lines)


def _width(columns: list[_Column]) -> int:
    return sum(column.width + 3 for column in columns)


def _fitting(columns: list[_Column], dispensable: tuple[str, ...], width: int) -> list[_Column]:
    """Without those that can be done without, one by one until the others fit."""
    for key in dispensable:
        if _width(columns) > width:
            columns = [column for column in columns if column.key != key]
    return columns


def _narrowed(column: _Column, rows: list[Row]) -> _Column:
    """A shorter title, no ratio in brackets, and the change of perplexity in whole percent."""
    if column.key == "interval":
        return replace(column, title="loss, %\n[95%]", cells=[_loss(row) for row in rows])
    title = "\n".join(_SHORT.get(line, line) for line in column.title.split("\n"))
    return replace(column, title=title, cells=[cell.partition(" (")[0] for cell in column.cells])


def _columns(rows: list[Row]) -> list[_Column]:
    protocols = list(dict.fromkeys(r.perplexity_protocol for r in rows if r.perplexity_protocol))
    protocol = protocols[0] if len(protocols) == 1 else None
    batch = next((row.batch_size for row in rows if row.batch_size), None)
    arithmetics = {row.arithmetic for row in rows if row.perplexity is not None}
    arithmetic = f"\n{arithmetics.pop() or ''}".rstrip() if len(arithmetics) == 1 else ""
    tasks = next((row.tasks for row in rows if row.tasks), None)
    columns = [
        _Column("star", "", ["★" if row.best_tradeoff else "" for row in rows], True),
        _Column("recipe", "recipe", [row.recipe for row in rows], True),
        _Column("seeds", "seeds", [str(row.seeds or _ABSENT) for row in rows]),
        _Column("engine", "engine", [row.engine for row in rows], True),
        _Column("machine", "machine", [row.machine or _ABSENT for row in rows], True),
        _Column("sweep", "sweep", [row.sweep or _ABSENT for row in rows], True),
        _Column("text", "text", [row.text or _ABSENT for row in rows], True),
        _Column("protocol", "protocol", [r.perplexity_protocol or _ABSENT for r in rows], True),
        _Column("arithmetic", "arith-\nmetic", [row.arithmetic or _ABSENT for row in rows], True),
        _Column(
            "quantized",
            "quan-\ntized",
            [_number(row.quantized_share, "{:.1f}%", 100) for row in rows],
        ),
        _Column("bits", "bits/\nweight", [_number(r.bits_per_weight, "{:.2f}") for r in rows]),
        _Column(
            "size",
            "checkpoint\nMB",
            [_number(row.checkpoint_bytes, "{:.1f}", 1e-6) for row in rows],
        ),
        _Column(
            "perplexity",
            f"perplexity\n{protocol or ''}{arithmetic}",
            [_perplexity(row) for row in rows],
        ),
        _Column("interval", "change\n[95% interval]", [_change(row) for row in rows]),
        _Column("kl", "KL div.\nnats", [_divergence(row) for row in rows]),
        _Column("top_1", "same\ntop-1", [_number(r.top_1_agreement, "{:.1f}%", 100) for r in rows]),
        _Column("tasks", f"accuracy\n{tasks} tasks", [_accuracy(row) for row in rows]),
        _Column("speed", f"decode tok/s\nbatch {batch or _ABSENT}", [_speed(row) for row in rows]),
        *(
            _Column(
                name,
                name.replace("/", "\n"),
                [_number(r.further.get(name), "{:.4g}") for r in rows],
            )
            for name in sorted({name for row in rows for name in row.further})
        ),
        _Column(
            "memory",
            "peak mem.\nMB",
            [_number(row.peak_memory_bytes, "{:.0f}", 1e-6) for row in rows],
        ),
    ]
    unsaid = {"engine"} if len({row.engine for row in rows}) < 2 else set()
    if all((row.seeds or 1) < 2 for row in rows):
        unsaid.add("seeds")
    if len({row.machine for row in rows if row.machine}) < 2:
        unsaid.add("machine")
    if len({row.sweep for row in rows}) < 2:
        unsaid.add("sweep")
    if len({row.text for row in rows if row.text}) < 2:
        unsaid.add("text")
    if len(protocols) < 2:
        unsaid.add("protocol")
    if len(arithmetics) < 2:
        unsaid.add("arithmetic")
    if all(row.kl_divergence is None for row in rows):
        unsaid |= {"kl", "top_1"}
    if all(row.quantized_share in (None, 1.0) for row in rows):
        unsaid.add("quantized")
    if tasks is None:
        unsaid.add("tasks")
    if batch is None:
        unsaid |= {"speed", "memory"}
    return [column for column in columns if column.key not in unsaid]


def footnotes(rows: list[Row]) -> list[str]:
    """What the table does not say: the star, and reasons of runs without a result."""
    notes = []
    if any(row.best_tradeoff for row in rows):
        notes.append(STAR)
    if evaluated := evaluated_on(rows):
        notes.append(evaluated)
    notes += quality_notes(rows)
    if any("_top_" in (row.kl_divergence_metric or "") for row in rows):
        notes.append(
            "KL divergence on vllm is a lower bound: vLLM returns the most likely tokens only."
        )
    if any(row.decode_within_noise and not row.is_baseline for row in rows):
        notes.append(SAME_SPEED)
    hows = {row.decode_compared for row in rows}
    if Protocol.apart.value in hows:
        notes.append(
            "Speeds were measured separately, so differences cannot be separated from drift of the "
            "machine; set bench.interleave=auto to alternate with the unquantized model."
        )
    if Protocol.again.value in hows:
        notes.append(
            "Speeds were measured between two measurements of the unquantized model; their "
            "intervals include its change."
        )
    timed = {row.sweep for row in rows if row.decode_tokens_per_second is not None}
    if len(timed) > 1:
        notes.append(
            f"Speeds come from {len(timed)} sweeps, measured at different times; each ratio is to "
            "the unquantized model of the same run."
        )
    notes += [f"{row.recipe}: {row.caveat}" for row in rows if row.caveat]
    for row in rows:
        if (row.calibration_overlap or 0.0) >= LARGE_SHARE:
            notes.append(
                f"{row.recipe}: {row.calibration_overlap:.1%} of the 8-word sequences evaluated "
                f"in {row.text} also occur in its calibration windows"
            )
    several = len({row.engine for row in rows}) > 1
    without: dict[tuple[str, str | None], list[str]] = {}
    for row in rows:
        if row.status != Status.ok.value:
            where = f" on {row.engine}" if several else ""
            without.setdefault((row.status, row.reason), []).append(f"{row.recipe}{where}")
    return notes + [
        f"{', '.join(names)} {status}: {reason}" for (status, reason), names in without.items()
    ]


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return _ABSENT if value is None else form.format(value * factor)


def _perplexity(row: Row) -> str:
    return _number(row.perplexity, "{:.4g}" if (row.perplexity or 0) >= 1e4 else "{:.3f}")


def _change(row: Row) -> str:
    if row.perplexity_delta is None:
        return _ABSENT
    bounds = (row.perplexity_delta, row.perplexity_delta_low, row.perplexity_delta_high)
    form = "{:+.3g}" if abs(row.perplexity_delta) >= 100 else "{:+z.2f}"
    middle, low, high = (form.format(bound) for bound in bounds)
    return f"{middle} [{low}, {high}]"


def _loss(row: Row) -> str:
    """Change of perplexity in percent."""
    bounds = row.perplexity_ratio, row.perplexity_ratio_low, row.perplexity_ratio_high
    if row.is_baseline or None in bounds:
        return _ABSENT
    middle, low, high = (_percent(bound) for bound in bounds if bound is not None)
    return f"{middle} [{low}, {high}]"


def _percent(ratio: float) -> str:
    change = (ratio - 1) * 100
    if abs(change) >= 1000:
        return f"{change:+.0e}"
    return f"{change:+z.1f}" if abs(change) < 10 else f"{change:+z.0f}"


def _divergence(row: Row) -> str:
    sign = "≤ " if at_floor(row) else ""
    form = "{:.4f}" if (row.kl_divergence or 0) < 1 else "{:.2f}"
    return sign + _number(row.kl_divergence, form)


def _accuracy(row: Row) -> str:
    if row.task_accuracy is None:
        return _ABSENT
    recovery = row.task_recovery_percent
    same = "~" if answers_at_floor(row) else ""
    return f"{row.task_accuracy:.3f}" + ("" if recovery is None else f" ({same}{recovery:.1f}%)")


def _speed(row: Row) -> str:
    if row.decode_tokens_per_second is None:
        return _ABSENT
    same = "~" if row.decode_within_noise and not row.is_baseline else ""
    ratio = f" ({same}{row.decode_ratio:.2f}x)" if row.decode_ratio is not None else ""
    return f"{row.decode_tokens_per_second:.1f}{dense_mark(row)}{ratio}"
