"""Columns of the page's table: title, format, and which direction is better."""

from dataclasses import dataclass
from typing import Any

from runner.reporting.rows import Row
from runner.util.serialise import to_json


@dataclass(frozen=True)
class Column:
    """One figure of a row."""

    key: str
    """Field of ``Row``."""
    title: str
    unit: str
    digits: int
    factor: float = 1.0
    """What the stored value is multiplied with to be in ``unit``."""
    better: str = ""
    """``low``, ``high``, or nothing where neither is."""
    signed: bool = False


COLUMNS = (
    Column("seeds", "Seeds", "", 0, better="high"),
    Column("bits_per_weight", "Bits per weight", "", 2, better="low"),
    Column("bits_per_parameter", "Bits per parameter", "", 2, better="low"),
    Column("quantized_share", "Quantized", "%", 1, 100, better="high"),
    Column("checkpoint_bytes", "Checkpoint", "MB", 1, 1e-6, better="low"),
    Column("perplexity", "Perplexity", "", 3, better="low"),
    Column("perplexity_delta", "Change", "", 3, better="low", signed=True),
    Column("perplexity_ratio", "Ratio", "x", 3, better="low"),
    Column("kl_divergence", "KL divergence", "nats", 4, better="low"),
    Column("floor_kl_divergence", "Arithmetic's KL", "nats", 4),
    Column("top_1_agreement", "Same top-1", "%", 1, 100, better="high"),
    Column("tasks", "Tasks", "", 0),
    Column("task_accuracy", "Accuracy", "%", 1, 100, better="high"),
    Column("task_accuracy_delta", "Change", "points", 1, 100, better="high", signed=True),
    Column("task_recovery_percent", "Recovery", "%", 1, better="high"),
    Column("task_answers", "Answers", "", 0),
    Column("task_answers_changed", "Answers changed", "", 0, better="low"),
    Column("task_answers_lost", "Lost", "", 0, better="low"),
    Column("task_answers_gained", "Gained", "", 0),
    Column("decode_tokens_per_second", "Decode", "tok/s", 1, better="high"),
    Column("decode_ratio", "Speed-up", "x", 2, better="high"),
    Column("time_to_first_token_seconds", "First token", "ms", 1, 1e3, better="low"),
    Column("memory_bandwidth_utilization", "Bandwidth used", "%", 0, 100, better="high"),
    Column("peak_memory_bytes", "Peak memory", "MB", 0, 1e-6, better="low"),
    Column("held_memory_bytes", "GPU memory held", "MB", 0, 1e-6),
)

_NOT_FIGURES = {
    "perplexity_delta_low", "perplexity_delta_high", "perplexity_ratio_low",
    "perplexity_ratio_high", "decode_tokens_per_second_sd", "batch_size",
    "task_accuracy_baseline", "floor_log_ratio", "floor_flips", "floor_task_accuracy", "icc",
    "effective_windows",
}  # fmt: skip


def columns_of(rows: list[Row]) -> list[dict[str, Any]]:
    """The columns that have a value in any row, as JSON; figures unknown here come last."""
    known = {column.key for column in COLUMNS}
    present = {
        name: value
        for row in rows
        for name, value in (vars(row) | row.further).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    others = (
        Column(name, name.replace("_", " ").capitalize(), "", 3)
        for name in present
        if name not in known | _NOT_FIGURES and not name.endswith(("_low", "_high", "_sd"))
    )
    columns: list[dict[str, Any]] = to_json(
        [*(column for column in COLUMNS if column.key in present), *others]
    )
    return columns
