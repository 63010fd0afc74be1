"""Sensitivities of a sweep: a ranked table, all rows as CSV and JSON, and a heat map."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.pipeline.stages.sensitivity import STAGE as SENSITIVITY
from runner.pipeline.stages.sensitivity import SensitivityResult, SensitivityRow
from runner.reporting.heat_map import draw_heat_map
from runner.store.files import (
    write_bytes_atomically,
    write_json_atomically,
    write_text_atomically,
)
from runner.store.records import RunRecord
from runner.util.names import path_part
from runner.util.serialise import to_json
from runner.util.shown import csv_rows

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from runner.evaluation.metrics.statistics import Interval

_SHOWN = 15


def show_sensitivities(records: list[RunRecord], folders: list[Path], console: "Console") -> None:
    """Print each measurement once, and write its files into every folder."""
    shown: dict[str, str] = {}
    for record in records:
        for entry in record.stages:
            if entry.stage != SENSITIVITY.name or entry.key in shown:
                continue
            if (result := record.read(entry, SENSITIVITY)) is None:
                continue
            name = f"sensitivity-{path_part(record.model)}-{result.grain.value}"
            if name in shown.values():
                name += f"-{entry.key[:6]}"
            shown[entry.key] = name
            drawn = draw_heat_map(result) if folders else b""
            for folder in folders:
                _write(result, drawn, folder, name)
            console.print(f"\nsensitivity of {record.model}", style="bold")
            console.print(ranked_table(result))
            for note in notes(result):
                console.print(note, soft_wrap=True)
            more = max(0, len(result.rows) - _SHOWN)
            if folders:
                console.print(
                    f"{f'{more} more rows and t' if more else 'T'}he heat map: "
                    f"{folders[-1]}/{name}.csv, .json, .png",
                    soft_wrap=True,
                )


def ranked(found: SensitivityResult) -> list[SensitivityRow]:
    """Rows by falling KL divergence."""
    return sorted(found.rows, key=lambda row: row.kl_divergence.estimate, reverse=True)


def ranked_table(found: SensitivityResult) -> "Table":
    """The rows that hurt most."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("rounded alone", no_wrap=True)
    table.add_column("as", no_wrap=True)
    table.add_column("KL divergence, nats\n[95% interval]", justify="right", no_wrap=True)
    table.add_column("perplexity\n[95% interval]", justify="right", no_wrap=True)
    for rank, row in enumerate(ranked(found)[:_SHOWN], 1):
        table.add_row(
            str(rank),
            row.unit.removeprefix("model."),
            row.rounding,
            _interval(row.kl_divergence, "{:.2g}"),
            _interval(row.perplexity_delta, "{:+.3g}"),
        )
    return table


def notes(found: SensitivityResult) -> list[str]:
    """Where the places said to be most sensitive stand: embedding, head, first and last block."""
    blocks = {unit.block for unit in found.units if unit.block is not None}
    lines = [
        f"unquantized: perplexity {found.perplexity:.3f} ({found.protocol}, "
        f"{found.tokens_scored} tokens)"
    ]
    if not blocks:
        return lines
    for rounding in dict.fromkeys(row.rounding for row in found.rows):
        rows = [row for row in ranked(found) if row.rounding == rounding]
        ranks = {row.unit: rank for rank, row in enumerate(rows, 1)}
        # A unit has no row where its layers do not fit the format.
        units = [unit for unit in found.units if unit.name in ranks]
        said = [f"{unit.name} {ranks[unit.name]}" for unit in units if unit.block is None]
        for what, block in (("first", min(blocks)), ("last", max(blocks))):
            if inside := sorted(ranks[unit.name] for unit in units if unit.block == block):
                said.append(f"{what} block {', '.join(map(str, inside))}")
        lines.append(f"{rounding}: ranks of {len(rows)}: {'; '.join(said)}")
    return lines


def _interval(interval: "Interval", form: str) -> str:
    middle, low, high = (form.format(x) for x in (interval.estimate, interval.low, interval.high))
    return f"{middle} [{low}, {high}]"


def _write(found: SensitivityResult, drawn: bytes, folder: Path, name: str) -> None:
    write_json_atomically(folder / f"{name}.json", to_json(found))
    units = {unit.name: unit for unit in found.units}
    columns = ["unit", "kind", "block", "weights", "rounding"]
    values = ["kl_divergence", "perplexity_delta"]
    columns += [f"{value}{end}" for value in values for end in ("", "_low", "_high")]
    rows: list[list[Any]] = [[*columns, "perplexity"]]
    for row in ranked(found):
        unit = units[row.unit]
        intervals = (row.kl_divergence, row.perplexity_delta)
        numbers = [x for i in intervals for x in (i.estimate, i.low, i.high)]
        cells = [unit.name, unit.kind, unit.block, unit.weights, row.rounding]
        rows.append([*cells, *numbers, row.perplexity])
    write_text_atomically(folder / f"{name}.csv", csv_rows(rows))
    write_bytes_atomically(folder / f"{name}.png", drawn)
