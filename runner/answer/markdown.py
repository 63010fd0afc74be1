"""The answer as Markdown: what to take, and the table, to be pasted where people talk."""

from runner.answer.best import USUAL_TOLERANCE, picks
from runner.answer.rows import Row
from runner.store.records import Status

_HEAD = (
    "", "recipe", "engine", "bits/weight", "checkpoint MB", "perplexity", "change [95%]",
    "decode tok/s", "peak memory MB",
)  # fmt: skip


def markdown(rows: list[Row]) -> str:
    """One part a model; rows without a result are listed with their reasons."""
    parts = []
    for model in dict.fromkeys(row.model for row in rows):
        of_model = [row for row in rows if row.model == model]
        parts += [f"## {_plain(model)}", "", *_picks(of_model, model), *_table(of_model), ""]
        parts += [
            f"- {_plain(row.recipe)} on {row.engine} {row.status}: {_plain(row.reason or '')}"
            for row in of_model
            if row.status != Status.ok.value
        ]
        parts.append("")
    return "\n".join(parts)


def _picks(rows: list[Row], model: str) -> list[str]:
    chosen = picks(rows, model, USUAL_TOLERANCE)
    lines = []
    if chosen.quality and chosen.quality.perplexity is not None:
        lines.append(f"- best for quality: {_named(chosen.quality)}")
    if chosen.size and chosen.size.checkpoint_bytes:
        size = f"{chosen.size.checkpoint_bytes / 1e6:.1f} MB"
        lines.append(f"- best for size: {_named(chosen.size)}, {size}")
    if chosen.speed and chosen.speed.decode_tokens_per_second:
        speed = f"{chosen.speed.decode_tokens_per_second:.1f} tok/s"
        lines.append(f"- best for speed: {_named(chosen.speed)}, {speed}")
    if not lines:
        return []
    return [f"Where perplexity may grow by {USUAL_TOLERANCE:.0%}:", "", *lines, ""]


def _named(row: Row) -> str:
    return f"**{_plain(row.recipe)}** on {row.engine}"


def _table(rows: list[Row]) -> list[str]:
    aligned = [":-:", ":--", ":--", *["--:"] * (len(_HEAD) - 3)]
    lines = [_HEAD, aligned, *(_cells(row) for row in rows if row.status == Status.ok.value)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cells(row: Row) -> list[str]:
    change = ""
    if row.perplexity_delta is not None:
        bounds = (row.perplexity_delta, row.perplexity_delta_low, row.perplexity_delta_high)
        middle, low, high = ("" if bound is None else f"{bound:+.3g}" for bound in bounds)
        change = f"{middle} [{low}, {high}]"
    return [
        "★" if row.best_tradeoff else "",
        _plain(row.recipe),
        row.engine,
        _number(row.bits_per_weight, 2),
        _number(row.checkpoint_bytes, 1, 1e-6),
        _number(row.perplexity, 3),
        change,
        _number(row.decode_tokens_per_second, 1),
        _number(row.peak_memory_bytes, 0, 1e-6),
    ]


def _number(value: float | None, digits: int, factor: float = 1.0) -> str:
    return "" if value is None else f"{value * factor:.{digits}f}"


def _plain(text: str) -> str:
    """Without what would end a cell or start markup."""
    for character in ("\\", "|", "<", "*", "`"):
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
