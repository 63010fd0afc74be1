"""A plan as a table that fits the terminal: columns that do not are left to wider ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runner.planning.option import Feasibility, Option, Range
from runner.planning.phrases import count, dollars, seconds, times, where
from runner.planning.result import PlanResult

if TYPE_CHECKING:
    from rich.table import Table

_ABSENT = "-"
_WIDE = 100
"""Columns of a terminal from which those of the table stand two apart."""
_VERDICT = 15
"""Columns that a verdict needs to be of one line."""
_LEAST_VERDICT = 9
_NEEDED = 97
"""Weight of columns that are never left out."""
_WORDS = {
    Feasibility.meets: "meets",
    Feasibility.unproven: "unproven",
    Feasibility.quality_risk: "quality risk",
    Feasibility.too_slow: "slow",
    Feasibility.does_not_fit: "does not fit",
    Feasibility.unsupported: "no engine",
    Feasibility.impossible: "impossible",
}


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    head: str
    cell: Callable[[Option], str]
    weight: int
    """Those of the least weight are left out first."""
    left: bool = False


def shown(plan: PlanResult, rows: int) -> list[Option]:
    """The options that are worth a row: the first ones, and the best of each device named.

    More devices that serve the same recipe no better, and cost more, are left to plan.csv.
    """
    kept: list[Option] = []
    alike: dict[tuple[str, str], list[Option]] = {}
    for option in plan.options:
        others = alike.setdefault((option.recipe, option.device), [])
        if not any(_no_better(option, other) for other in others):
            others.append(option)
            kept.append(option)
    best = {name: next((o for o in kept if o.device == name), None) for name in plan.named_devices}
    first = kept[:rows]
    return first + [o for o in best.values() if o is not None and not any(o is f for f in first)]


def _no_better(option: Option, other: Option) -> bool:
    """Whether an option is of no use beside another of its recipe and device, ranked before it."""
    token, before = option.time_per_output_token_seconds, other.time_per_output_token_seconds
    if option.tensor_parallel < other.tensor_parallel:
        return False
    if option.verdict is not other.verdict:
        return other.verdict is Feasibility.meets or option.verdict in _NO_USE
    if token is None or before is None:
        return True
    return token.expected >= before.expected and option.served_concurrency <= (
        other.served_concurrency
    )


_NO_USE = (Feasibility.impossible, Feasibility.unsupported)


def plan_table(plan: PlanResult, options: Sequence[Option], width: int) -> "Table":
    """Options as a table.

    Args:
        plan: Where they are from.
        options: Its rows.
        width: Columns of the terminal.
    """
    from rich import box
    from rich.table import Table

    gap = 2 if width >= _WIDE else 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    *columns, verdict = _fitting([*_columns(plan)], options, width, gap)
    for column in columns:
        side: Literal["left", "right"] = "left" if column.left else "right"
        table.add_column(column.head, justify=side, no_wrap=True)
    left = width - sum(_width(column, options) + gap for column in columns)
    table.add_column(verdict.head, max_width=max(_LEAST_VERDICT, left))
    columns.append(verdict)
    for option in options:
        style = None if option.verdict is Feasibility.meets else "dim"
        table.add_row(*(column.cell(option) for column in columns), style=style)
    return table


def _columns(plan: PlanResult) -> Iterator[Column]:
    traffic = plan.tokens_per_day is not None
    yield Column("recipe", lambda o: o.recipe, 99, left=True)
    yield Column("devices", where, 99, left=True)
    yield Column("engine", lambda o: o.engine or _ABSENT, 30, left=True)
    yield Column("weights\nGB", lambda o: f"{o.weight_bytes / 1e9:.1f}", 40)
    yield Column("KV\ntokens", _room, 60)
    yield Column("TTFT", lambda o: _seconds(o.time_to_first_token_seconds), 98)
    yield Column("ITL ms\n[low, high]", _token, 97)
    yield Column("floor\nms", lambda o: _milli(o.bound_decode_seconds), 10)
    yield Column("tok/s", lambda o: _count(o.tokens_per_second), 80)
    yield Column("users\nat most", _users, 50)
    yield Column("$/h", _hourly, 85 if not traffic else 45)
    yield Column("$/M tok\nbusy", lambda o: _dollars(o.cost_per_million_tokens), 55)
    if traffic:
        yield Column("$/month\n(devices)", _monthly, 90)
    yield Column("verdict", _verdict, 99, left=True)


def _fitting(
    columns: list[Column], options: Sequence[Option], width: int, gap: int
) -> Iterator[Column]:
    """The columns that fit, the heaviest first; the last gets what is left."""
    *others, last = columns
    widths = {column.head: _width(column, options) for column in columns}
    left = width - min(widths[last.head], _VERDICT)
    chosen = set()
    for column in sorted(others, key=lambda column: -column.weight):
        need = widths[column.head] + gap
        if need <= left or column.weight >= _NEEDED:
            left -= need
            chosen.add(column.head)
    yield from (column for column in others if column.head in chosen)
    yield last


def _width(column: Column, options: Sequence[Option]) -> int:
    cells = [*column.head.split("\n"), *(column.cell(option) for option in options)]
    return max(map(len, cells))


def _verdict(option: Option) -> str:
    """``meets``, ``TTFT 2.1x over``, ``does not fit``."""
    if option.misses:
        over = ", ".join(f"{miss.what} {times(miss.over)}" for miss in option.misses)
        return f"{over} over"
    return _WORDS[option.verdict]


def _room(option: Option) -> str:
    return count(option.kv_tokens.expected) if option.kv_tokens and option.kv_capacity_tokens else (
        _ABSENT
    )  # fmt: skip


def _token(option: Option) -> str:
    value = option.time_per_output_token_seconds
    if value is None:
        return _ABSENT
    low, middle, high = (1e3 * v for v in (value.low, value.expected, value.high))
    return f"{middle:.3g} [{low:.2g}, {high:.2g}]" if high < 100 else (
        f"{middle:.0f} [{low:.0f}, {high:.0f}]"
    )  # fmt: skip


def _seconds(value: Range | None) -> str:
    return _ABSENT if value is None else seconds(value.expected)


def _milli(value: float | None) -> str:
    return _ABSENT if value is None else f"{1e3 * value:.3g}"


def _count(value: Range | None) -> str:
    return _ABSENT if value is None else count(value.expected)


def _users(option: Option) -> str:
    return _ABSENT if option.users_within is None else str(option.users_within)


def _hourly(option: Option) -> str:
    price = option.price_per_hour
    return _ABSENT if price is None else dollars(price * option.tensor_parallel)


def _dollars(value: Range | None) -> str:
    return _ABSENT if value is None else dollars(value.expected)


def _monthly(option: Option) -> str:
    if option.devices_needed is None:
        return _ABSENT
    cost = option.monthly_cost
    return f"{_ABSENT if cost is None else dollars(cost)} ({option.devices_needed})"
