"""Writes docs/zoo.md from the records of ``runner -cn zoo``.

    python -m docs.zoo FOLDER...

A folder is that of a sweep, ``runs/NAME`` in the store. Of a cell's records the latest counts.
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runner.store.records import RunRecord, Status, read_record
from runner.util.paths import conf_dir

PATH = Path(__file__).parent / "zoo.md"
ENGINES = ("hf", "vllm", "llama_cpp")
NOT_RUN = "·"
_ENDED = (Status.ok, Status.skipped, Status.failed, Status.oom, Status.timeout)
_HEAD = """\
# The zoo: which models go through what

Made by `python -m docs.zoo` from the records of `runner -cn zoo`, in which every architecture of
`conf/model/zoo` goes through every method and backend, and every engine. The models are tiny and of
random weights: the table says what works, and nothing of how good a recipe is.

"""
_LEGEND = """\
A cell is `ok` and shows the KL divergence from the unquantized model in the same engine, in nats a
token: it is near 0 with 8 bits and grows with fewer. Behind it stands the share of what the recipe
promises to quantize that really is, where that is less than all. **`skipped`** cells were refused
before the work with the reason of that number below; **`failed`** ones ended in an error; `·` was
not run. Every run reads its checkpoint back, and fails if a tensor is missing, left over or of
another shape. vLLM tells of its most likely tokens alone, over which the divergence is smaller.

"""


@dataclass
class Table:
    """What is known of all cells, and the reasons by number."""

    records: dict[tuple[str, str, str], RunRecord]
    """By model, recipe and engine."""
    reasons: dict[str, int] = field(default_factory=dict)

    def cell(self, model: str, recipe: str, engine: str) -> str:
        """What stands in a cell of KL divergences."""
        record = self.records.get((model, recipe, engine))
        if record is None:
            return NOT_RUN
        if record.status is not Status.ok:
            return f"**{record.status.value}** {self.number(record)}"
        found = _result(record, "eval", "recipe")
        kl = found["divergence"]["kl_divergence"]["mean"]["estimate"]
        coverage = (_result(record, "quantize", "recipe").get("coverage") or {}).get(
            "quantized_share"
        )
        share = "" if coverage is None or coverage > 0.995 else f" · {coverage:.0%}"
        return f"{kl:.2g}{share}" if kl < 100 else f"{kl:.0f}{share}"

    def perplexity(self, model: str, engine: str) -> str:
        """What stands in a cell of unquantized models."""
        record = self.records.get((model, "none-bf16", engine))
        if record is None:
            return NOT_RUN
        if record.status is not Status.ok:
            return f"**{record.status.value}** {self.number(record)}"
        found = _result(record, "eval", "baseline")
        return f"{found['perplexity']['value']:.1f}"

    def number(self, record: RunRecord) -> str:
        """A reason's number."""
        return f"[{self.reasons.setdefault(_reason(record), len(self.reasons) + 1)}](#reasons)"


def page(folders: list[Path]) -> str:
    """The whole page."""
    paths = [path for folder in folders for path in sorted(folder.glob("*/record.json"))]
    found = (read_record(path) for path in paths)
    records = [record for record in found if record is not None and record.status in _ENDED]
    records.sort(key=lambda record: record.started)
    table = Table({(r.model, recipe_of(r), r.engine): r for r in records})
    models = [
        yaml.safe_load(path.read_text("utf-8"))["name"]
        for path in sorted((conf_dir() / "model" / "zoo").glob("*.yaml"))
    ]
    parts = [_HEAD, _summary(table), _LEGEND]
    parts += [
        "## Unquantized\n\nPerplexity in each engine: in float32 in hf, of a file of float32 in "
        "llama_cpp, in vLLM's own type.\n\n",
        _markdown(
            ["model", *ENGINES],
            [[_short(m), *(table.perplexity(m, engine) for engine in ENGINES)] for m in models],
        ),
    ]
    order = list(dict.fromkeys(recipe_of(record) for record in records))
    for engine in ENGINES:
        recipes = sorted(
            {recipe for _, recipe, e in table.records if e == engine and recipe != "none-bf16"},
            key=order.index,
        )
        if recipes:
            rows = [[_short(m), *(table.cell(m, r, engine) for r in recipes)] for m in models]
            parts += [f"## {engine}\n\n", _markdown(["model", *recipes], rows)]
    listed = (f"{number}. {reason}\n" for reason, number in table.reasons.items())
    parts += ["## Reasons\n\n", *listed]
    return "".join(parts).rstrip() + "\n"


def recipe_of(record: RunRecord) -> str:
    """The recipe's label, without the calibration that all have."""
    label = re.sub(r",calibration=\w+", "", record.label)
    return "none-bf16" if label == "as-is" else label


def _summary(table: Table) -> str:
    records = list(table.records.values())
    counts = Counter(r.status.value for r in records)
    versions: dict[str, str] = {}
    for record in records:
        for stage in record.stages:
            versions |= stage.versions
    host = records[-1].host if records else {}
    times = sorted(record.started[:16].replace("T", " ") for record in records)
    pieces = len({record.sweep for record in records})
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return (
        f"{len(records)} cells: {told}. Run in {pieces} pieces, "
        f"{times[0]} to {times[-1]} UTC, on "
        f"{host.get('cpu_name')} ({', '.join(host.get('instruction_sets', []))}); "
        f"{', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.\n\n"
    )


def _result(record: RunRecord, stage: str, subject: str) -> dict[str, Any]:
    found = (e.result for e in record.stages if (e.stage, e.subject) == (stage, subject))
    return next(found, None) or {}


def _reason(record: RunRecord) -> str:
    """One line without paths of the machine it ran on."""
    lines = " ".join((record.reason or "").split())
    return re.sub(r"/\S+/(?=[\w.-]+)", "", lines).replace("|", "\\|")[:400]


def _short(model: str) -> str:
    return model.removeprefix("zoo_")


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(page([Path(name) for name in sys.argv[1:]]), "utf-8")
    print(f"{PATH}: {len(PATH.read_text('utf-8').splitlines())} lines", file=sys.stderr)
