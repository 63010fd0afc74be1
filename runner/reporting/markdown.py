"""The answer as Markdown, to paste: the verdict and the table."""

import re
from collections.abc import Sequence

from runner.reporting.capabilities.show import capabilities_markdown
from runner.reporting.capacity import served
from runner.reporting.claims.decide import Decision
from runner.reporting.claims.show import comparison_line
from runner.reporting.confidence import Line as ConfidenceLine
from runner.reporting.confidence import confidence_lines
from runner.reporting.floor import at_floor
from runner.reporting.generation import WORDS, generation_lines, note_of, table_of
from runner.reporting.generation import Line as GenerationLine
from runner.reporting.notes import dense_mark, quality_notes
from runner.reporting.rows import Row, evaluated_on
from runner.reporting.scores import Cell, Line, names_of, score_lines
from runner.reporting.served import served_rows
from runner.reporting.serving import HEAD, UNSURE, left_out_lines, searched_parts
from runner.reporting.verdict.show import lines_of
from runner.reporting.verdict.verdict import Verdict
from runner.store.records import RunRecord, Status
from runner.util.shown import escaped, printable

_HEAD = (
    "", "recipe", "seeds", "engine", "machine", "sweep", "text", "protocol", "arithmetic",
    "bits/weight", "checkpoint MB", "perplexity", "change [95%]", "KL divergence, nats [95%]",
    "decode tok/s", "peak memory MB",
)  # fmt: skip


def markdown(
    rows: list[Row],
    records: list[RunRecord],
    decisions: list[Decision],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """One part a model, the verdict first; then the claims.

    Rows without a result are listed with their reasons.
    """
    lines, by_confidence = score_lines(records, rows), confidence_lines(records, rows)
    generated = generation_lines(records, rows)
    parts = []
    for model in dict.fromkeys(row.model for row in rows):
        of_model = [row for row in rows if row.model == model]
        parts += [f"## {escaped(model)}", ""]
        for verdict in verdicts:
            if verdict.model == model:
                parts += _verdict(verdict)
        parts += [*_table(of_model), ""]
        if evaluated := evaluated_on(of_model):
            parts += [escaped(evaluated), ""]
        parts += [f"- {escaped(note)}" for note in quality_notes(of_model)]
        parts += _confidence([one for one in by_confidence if rows[one.row].model == model])
        parts += _scores([line for line in lines if rows[line.row].model == model])
        parts += _generation([one for one in generated if rows[one.row].model == model])
        parts += [
            f"- {escaped(row.recipe)}: {escaped(row.caveat)}" for row in of_model if row.caveat
        ]
        parts += _served(of_model)
        parts += capabilities_markdown([record for record in records if record.model == model])
        parts += _servers([record for record in records if record.model == model])
        parts += [
            f"- {escaped(row.recipe)} on {row.engine} {row.status}: {escaped(row.reason or '')}"
            for row in of_model
            if row.status != Status.ok.value
        ]
        parts.append("")
    return "\n".join(parts + _claims(decisions))


def _served(rows: list[Row]) -> list[str]:
    return [
        f"- {escaped(one.recipe)} on {one.engine}: {_code(one.checkpoint)}"
        + (f", served by {_code(one.serve)}" if one.serve is not None else "")
        for one in served_rows(rows)
    ]


def _code(text: str) -> str:
    """Literally, whatever is in it."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{printable(text)}{fence}"


def _scores(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    names = names_of(lines)
    table = [["recipe", "engine", *names], [":--", ":--", *["--:"] * len(names)]]
    for line in lines:
        cells = (line.cells.get(name) for name in names)
        table.append([escaped(line.recipe), line.engine, *map(_score, cells)])
    return [*(f"| {' | '.join(cells)} |" for cells in table), ""]


def _generation(lines: list[GenerationLine]) -> list[str]:
    """How far each recipe's text is the unquantized model's."""
    if not lines:
        return []
    names, found = table_of(lines)
    aligned = [":--" if name in WORDS else "--:" for name in names]
    table = [[*map(escaped, names)], aligned, *([*map(escaped, line)] for line in found)]
    return [
        "",
        "Generated text:",
        "",
        *(f"| {' | '.join(line)} |" for line in table),
        "",
        note_of(lines),
        "",
    ]


def _confidence(lines: list[ConfidenceLine]) -> list[str]:
    """Mean KL divergence and share of flips, by the unquantized model's top probability."""
    if not lines:
        return []
    names = [bucket.label for bucket in lines[0].buckets]
    title = "KL divergence, nats (flips) by the unquantized model's top probability:"
    table = [["recipe", "engine", *names], [":--", ":--", *["--:"] * len(names)]]
    for line in lines:
        cells = [
            "" if b.kl_divergence is None or b.flipped_share is None
            else f"{b.kl_divergence.estimate:.4f} ({b.flipped_share:.2%})"
            for b in line.buckets
        ]  # fmt: skip
        table.append([escaped(line.recipe), line.engine, *cells])
    return ["", title, "", *(f"| {' | '.join(cells)} |" for cells in table), ""]


def _servers(records: list[RunRecord]) -> list[str]:
    """How many users each server holds, and what was not served."""
    found = served(records)
    if found is None:
        return []
    parts = []
    for title, lines in searched_parts(found):
        table = [HEAD, (":--", ":--", *["--:"] * (len(HEAD) - 2)), *lines]
        parts += ["", f"{escaped(title[:1].upper() + title[1:])}:", ""]
        parts += [f"| {' | '.join(map(escaped, cells))} |" for cells in table]
        if any("~" in cell for line in lines for cell in line):
            parts += ["", UNSURE]
        parts.append("")
    return [*parts, *(f"- {escaped(line)}" for line in left_out_lines(found))]


def _score(cell: Cell | None) -> str:
    if cell is None:
        return ""
    error = "" if cell.standard_error is None else f" ± {cell.standard_error:.3f}"
    recovery = "" if cell.recovery_percent is None else f" ({cell.recovery_percent:.1f}%)"
    return f"{cell.value:.3f}{error}{recovery}"


def _claims(decisions: list[Decision]) -> list[str]:
    if not decisions:
        return []
    lines = []
    for decision in decisions:
        claim = decision.claim
        lines.append(f"- **{decision.verdict}**: {escaped(claim.id)}, {escaped(claim.sentence)}")
        lines += [f"  - {escaped(comparison_line(claim, c))}" for c in decision.comparisons]
    return ["## Claims", "", *lines, ""]


def _verdict(verdict: Verdict) -> list[str]:
    where = escaped(verdict.scope.removeprefix(verdict.model).removeprefix(" on "))
    parts = [f"### {where[0].upper()}{where[1:]}", ""] if where else []
    parts += [f"**{escaped(verdict.headline)}**", ""]
    parts += [f"- {escaped(line)}" for line in lines_of(verdict)]
    parts.append("")
    if verdict.take is not None and verdict.take.serve is not None:
        parts += ["```", printable(verdict.take.serve), "```", ""]
    return parts


def _table(rows: list[Row]) -> list[str]:
    """Columns that no row has are left out, and so are text and sweep where there is only one."""
    rows = [row for row in rows if row.status == Status.ok.value]
    lines = [_cells(row) for row in rows]
    if len({row.text for row in rows if row.text is not None}) < 2:
        lines = [line | {"text": ""} for line in lines]
    if len({row.perplexity_protocol for row in rows if row.perplexity_protocol}) < 2:
        lines = [line | {"protocol": ""} for line in lines]
    if len({row.sweep for row in rows}) < 2:
        lines = [line | {"sweep": ""} for line in lines]
    if len({row.machine for row in rows if row.machine}) < 2:
        lines = [line | {"machine": ""} for line in lines]
    heads = [head for head in _HEAD if any(line[head] for line in lines)]
    words = ("recipe", "engine", "machine", "sweep", "text", "protocol", "arithmetic")
    aligned = [":-:" if not head else ":--" if head in words else "--:" for head in heads]
    found = [heads, aligned, *([line[head] for head in heads] for line in lines)]
    return [f"| {' | '.join(cells)} |" for cells in found]


def _cells(row: Row) -> dict[str, str]:
    change = ""
    if row.perplexity_delta is not None:
        bounds = (row.perplexity_delta, row.perplexity_delta_low, row.perplexity_delta_high)
        middle, low, high = ("" if bound is None else f"{bound:+.3g}" for bound in bounds)
        change = f"{middle} [{low}, {high}]"
    cells = [
        "★" if row.best_tradeoff else "",
        escaped(row.recipe),
        _number(row.seeds, 0) if (row.seeds or 1) > 1 else "",
        row.engine,
        escaped(row.machine or ""),
        escaped(row.sweep or ""),
        escaped(row.text or ""),
        row.perplexity_protocol or "",
        (row.arithmetic or "") if row.perplexity is not None else "",
        _number(row.bits_per_weight, 2),
        _number(row.checkpoint_bytes, 1, 1e-6),
        _number(row.perplexity, 3),
        change,
        ("≤ " if at_floor(row) else "") + _interval(row),
        _number(row.decode_tokens_per_second, 1) + dense_mark(row),
        _number(row.peak_memory_bytes, 0, 1e-6),
    ]
    return dict(zip(_HEAD, cells, strict=True))


def _interval(row: Row) -> str:
    shown = _number(row.kl_divergence, 4)
    if row.kl_divergence_low is None or row.kl_divergence_high is None:
        return shown
    return f"{shown} [{row.kl_divergence_low:.4f}, {row.kl_divergence_high:.4f}]"


def _number(value: float | None, digits: int, factor: float = 1.0) -> str:
    return "" if value is None else f"{value * factor:.{digits}f}"
