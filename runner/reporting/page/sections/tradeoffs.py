"""Charts: quality over size and over speed, speed over batch size, quality with its interval."""

from typing import Any

from runner.reporting.comparable import comparable_rows
from runner.reporting.page.charts import quality_intervals, speed_by_batch, tradeoff
from runner.reporting.page.marks import marks_of
from runner.reporting.page.subject import Subject

TITLE = "Trade-offs"

_QUALITIES = {
    "perplexity": "perplexity",
    "perplexity_ratio": "perplexity, times unquantized",
    "perplexity_delta": "change of perplexity",
    "kl_divergence": "KL divergence, nats per token",
}


def gather(subject: Subject) -> dict[str, Any] | None:
    """Specifications without data: the page fills in the rows that its filters leave."""
    rows = subject.rows
    qualities = {
        name: title
        for name, title in _QUALITIES.items()
        if any(getattr(row, name) is not None for row in rows)
    }
    charts: list[dict[str, Any]] = []

    def add(name: str, title: str, spec: dict[str, Any], hint: str = "") -> None:
        charts.append({"name": name, "title": title, "spec": spec, "hint": hint})

    sized = any(row.checkpoint_bytes is not None for row in rows)
    fast = any(row.decode_tokens_per_second is not None for row in rows)
    if qualities and sized:
        spec = tradeoff("size", "checkpoint (MB)", "QUALITY", "GROUP", more_is_better=False)
        add("size", "Quality and size", spec, "left and down is better")
    if qualities and fast:
        spec = tradeoff("speed", "decode tokens/s", "QUALITY", "GROUP", more_is_better=True)
        add("speed", "Quality and speed", spec, "right and down is better")
    if fast:
        add("batch", "Speed and batch size", speed_by_batch("GROUP"), "bars: ± one sd")
    if "perplexity_delta" in qualities:
        spec = quality_intervals("change of perplexity", "GROUP")
        add("interval", "Loss of quality, with its 95% interval", spec, "left is better")
    if not charts:
        return None
    protocols = sorted(
        {
            ", ".join(filter(None, (row.perplexity_protocol, row.arithmetic)))
            for row in rows
            if row.perplexity_protocol
        }
    )
    several = len(comparable_rows(rows)) > 1
    usual = "perplexity_ratio" if several and "perplexity_ratio" in qualities else None
    return {
        "charts": charts,
        "qualities": qualities,
        "quality": usual or next(iter(qualities), ""),
        "protocols": protocols,
        "marks": marks_of(str(row.get("method")) for row in subject.row_dicts()),
    }
