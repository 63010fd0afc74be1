"""The answer as a table for a terminal."""

from typing import TYPE_CHECKING

from runner.answer.rows import Row
from runner.store.records import Status

if TYPE_CHECKING:
    from rich.table import Table

_ABSENT = "-"


def build_table(rows: list[Row]) -> "Table":
    """Recipe, size, quality, speed, memory; the best trade-offs carry a star."""
    from rich import box
    from rich.table import Table

    protocol = next((row.perplexity_protocol for row in rows if row.perplexity_protocol), None)
    batch = next((row.batch_size for row in rows if row.batch_size), None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("")
    table.add_column("recipe", no_wrap=True)
    engines = {row.engine for row in rows}
    if len(engines) > 1:
        table.add_column("engine", no_wrap=True)
    table.add_column("bits/\nweight", justify="right")
    table.add_column("checkpoint\nMB", justify="right")
    table.add_column(f"perplexity\n{protocol or ''}", justify="right", no_wrap=True)
    table.add_column("change\n\\[95% interval]", justify="right", no_wrap=True)
    table.add_column(f"decode tok/s\nbatch {batch or _ABSENT}", justify="right", no_wrap=True)
    table.add_column("peak mem.\nMB", justify="right")
    for row in rows:
        ok = row.status == Status.ok.value
        table.add_row(
            "★" if row.best_tradeoff else "",
            row.recipe if ok else f"{row.recipe} ({row.status})",
            *([row.engine] if len(engines) > 1 else []),
            _number(row.bits_per_weight, "{:.2f}"),
            _number(row.checkpoint_bytes, "{:.1f}", 1e-6),
            _number(row.perplexity, "{:.4g}" if (row.perplexity or 0) >= 1e4 else "{:.3f}"),
            _change(row),
            _speed(row),
            _number(row.peak_memory_bytes, "{:.0f}", 1e-6),
            style=None if ok else "dim",
        )
    return table


def footnotes(rows: list[Row]) -> list[str]:
    """What the table does not say: the star, and reasons of runs without a result."""
    notes = []
    if any(row.best_tradeoff for row in rows):
        notes.append("★ best trade-offs: no other row is at least as small, as good and as fast.")
    several = len({row.engine for row in rows}) > 1
    for row in rows:
        if row.status != Status.ok.value:
            where = f" on {row.engine}" if several else ""
            notes.append(f"{row.recipe}{where} {row.status}: {row.reason}")
    return notes


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return _ABSENT if value is None else form.format(value * factor)


def _change(row: Row) -> str:
    if row.perplexity_delta is None:
        return _ABSENT
    bounds = (row.perplexity_delta, row.perplexity_delta_low, row.perplexity_delta_high)
    form = "{:+.3g}" if abs(row.perplexity_delta) >= 100 else "{:+.2f}"
    middle, low, high = (form.format(bound) for bound in bounds)
    return rf"{middle} \[{low}, {high}]"


def _speed(row: Row) -> str:
    if row.decode_tokens_per_second is None:
        return _ABSENT
    ratio = f" ({row.decode_ratio:.2f}x)" if row.decode_ratio is not None else ""
    return f"{row.decode_tokens_per_second:.1f}{ratio}"
