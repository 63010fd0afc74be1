"""The matrix in docs/backends.md, from capabilities and verdicts: ``python -m docs.matrix``.

No row is written by hand. Methods say by backend which bits and groups they make; whether an engine
reads what comes out is judged as for a run, on a CPU and on a machine with an H100.
"""

import copy
import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from runner.api import compose_config
from runner.config import options
from runner.config.schema.bits import Bits
from runner.config.schema.group_size import GroupSize
from runner.config.schema.root import Config
from runner.methods import capabilities_of, quantizing_methods
from runner.methods.base import Capabilities
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import Machine
from runner.util.extensions import Kind, names
from runner.util.gpus import Gpu
from runner.util.instructions import VARIABLE
from runner.util.serialise import from_json
from runner.validation.check import check
from runner.validation.verdict import Severity

PATH = Path(__file__).parent / "backends.md"
MARKS = ("<!-- begin: matrix -->\n", "<!-- end: matrix -->\n")
MODEL = "llama31_8b"
"""Dense, and of a width that every group divides."""
GROUPS = ("per_tensor", "per_channel", "g16", "g32", "g64", "g128", "b128")
"""Looked at where a backend takes any."""
INSTRUCTIONS = "avx2,avx512f,avx512_vnni,avx512_bf16"
CPU = Machine(
    cpu_name="a CPU", cpu_architecture="x86_64", physical_cores=64, usable_cores=64,
    instruction_sets=tuple(INSTRUCTIONS.split(",")), last_level_cache_bytes=256_000_000,
    memory_bytes=1_000_000_000_000, gpus=(),
)  # fmt: skip
H100 = replace(CPU, gpus=(Gpu("NVIDIA H100 80GB HBM3", 84_900_000_000, "9.0", "GPU-0"),))
RUNS, GPU_ONLY, REFUSED = "runs", "CUDA", "no"
_LEGEND = f"""\
What each method makes through each backend, and which engine reads it:

- `{RUNS}`: on CPUs, here with AVX-512 and VNNI;
- `{GPU_ONLY}`: legal on an H100, not exercised; the reason is the CPU's;
- `{REFUSED}`: refused on both; the reason is the GPU's.

A cell is what `runner` would answer for `model={MODEL}`: `python -m docs.matrix` asks the
rules that judge a run, and writes this section.

"""


@dataclass(frozen=True)
class Row:
    """What a backend makes of some bits in some groups, and what engines say to it."""

    method: str
    backend: str
    format: str
    bits: tuple[str, ...]
    groups: tuple[str, ...]
    cells: tuple[str, ...]
    """By engine, in the order of ``engines``; with the numbers of reasons."""


@dataclass
class Reasons:
    """Why something is refused, numbered in the order of the table."""

    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, reason: str) -> int:
        """A reason's number."""
        return self.numbers.setdefault(reason, len(self.numbers) + 1)


def engines() -> list[str]:
    """All of the package."""
    return names(Kind.engine, builtin=True)


def rows(methods: "list[str] | None" = None) -> tuple[list[Row], Reasons]:
    """The matrix and the reasons that it names.

    Args:
        methods: Which; all that quantize by default.
    """
    reasons = Reasons()
    kept = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = INSTRUCTIONS
    try:
        settings = {name: compose_config([f"engine={name}"]).engine for name in engines()}
        known = [name for name in names(Kind.method, builtin=True) if name in quantizing_methods()]
        found = [
            row
            for method in (known if methods is None else methods)
            for row in _method(method, settings, reasons)
        ]
    finally:
        if kept is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = kept
    return found, reasons


def _method(method: str, settings: Mapping[str, object], reasons: Reasons) -> Iterator[Row]:
    base = compose_config([f"method={method}", f"model={MODEL}", "stages=[quantize,eval]"])
    judges = [Judge(base, machine, settings) for machine in (CPU, H100)]
    for backend in quantizing_methods()[method].backends:
        base.method.backend = backend
        can = capabilities_of(base.method)
        by_bits: dict[str, dict[str, tuple[str, ...]]] = {}
        for label in can.bits:
            if (bits := _schemes().get(label)) is None:
                continue  # has no option of its own
            for size in _groups(can, bits):
                cells = [[one.refusal(bits, size, e) for one in judges] for e in settings]
                by_bits.setdefault(label, {})[size.label] = tuple(
                    _cell(on_cpu, on_gpu, reasons) for on_cpu, on_gpu in cells
                )
        yield from _merged(method, backend, can.checkpoint_format, by_bits)


def _merged(
    method: str, backend: str, form: str, by_bits: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> Iterator[Row]:
    """Bits that fare alike in every group share rows, as do groups of theirs with equal cells."""
    alike: dict[tuple[tuple[str, tuple[str, ...]], ...], list[str]] = {}
    for label, found in by_bits.items():
        alike.setdefault(tuple(found.items()), []).append(label)
    for pairs, labels in alike.items():
        by_cells: dict[tuple[str, ...], list[str]] = {}
        for group, cells in pairs:
            by_cells.setdefault(cells, []).append(group)
        for cells, groups in by_cells.items():
            yield Row(method, backend, form, tuple(labels), tuple(groups), cells)


@dataclass
class Judge:
    """Judges recipes of one method on one machine."""

    base: Config
    machine: Machine
    engines: Mapping[str, object]

    def refusal(self, bits: Bits, size: GroupSize, engine: str) -> str | None:
        """Why a run that quantizes and evaluates would be refused; ``None`` if it would not."""
        config = copy.copy(self.base)
        config.bits, config.group_size = bits, size
        config.engine = copy.copy(self.engines[engine])  # type: ignore[assignment]
        config.engine.device = "cuda" if self.machine.gpus else "cpu"
        facts = gather_facts(config, self.machine, [])
        # What this very machine lacks is no property of the combination.
        facts = replace(facts, obstacle=lambda *_: None)
        refused = [v for v in check(config, facts) if v.severity is Severity.illegal]
        return _of_any(refused[0].reason, bits, size) if refused else None


def _of_any(reason: str, bits: Bits, size: GroupSize) -> str:
    """A reason in words that other bits and groups share."""
    reason = re.sub(
        rf"\b(of|through \w+ does not support) {bits.label}\b", r"\1 these bits", reason
    )
    reason = reason.replace(f"bits={bits.label} ", "these bits ")
    reason = reason.replace(f"every {size.size} inputs", "so many inputs")
    return re.sub(rf"\b(with|scales) {size.label}\b", r"\1 these groups", reason)


def _cell(on_cpu: str | None, on_gpu: str | None, reasons: Reasons) -> str:
    if on_cpu is None:
        return RUNS
    if on_gpu is None:
        return f"{GPU_ONLY} [{reasons.of(on_cpu)}]"
    return f"{REFUSED} [{reasons.of(on_gpu)}]"


@functools.cache
def _schemes() -> Mapping[str, Bits]:
    """The options of group ``bits`` by their labels."""
    found = {}
    for path in options.option_files("bits").values():
        content = yaml.safe_load(path.read_text("utf-8"))
        bits: Bits = from_json(Bits, {k: v for k, v in content.items() if k != "defaults"})
        found.setdefault(bits.label, bits)
    return found


def _groups(can: Capabilities, bits: Bits) -> Iterator[GroupSize]:
    """Those of ``GROUPS`` that a backend takes, and others that it names."""
    listed = can.groups_for(bits)
    for name in dict.fromkeys([*GROUPS, *listed]):
        size = GroupSize.named(name)
        if size is not None and size.is_among(listed):
            yield size


def table(found: list[Row]) -> list[str]:
    """Lines of the table."""
    heads = ["method", "backend", "format", "bits", "groups", *engines()]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in found:
        said = [", ".join(row.bits), ", ".join(row.groups).replace("_", " "), *row.cells]
        lines.append(f"| {' | '.join([row.method, row.backend, row.format, *said])} |")
    return lines


def section() -> str:
    """What stands between the marks."""
    found, reasons = rows()
    listed = [f"{number}. {reason}" for reason, number in reasons.numbers.items()]
    return "\n" + _LEGEND + "\n".join([*table(found), "", *listed]) + "\n\n"


def replaced(text: str) -> str:
    """The page with the section as it is now."""
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return before + MARKS[0] + section() + MARKS[1] + after


if __name__ == "__main__":
    PATH.write_text(replaced(PATH.read_text("utf-8")), "utf-8")
    print(f"{PATH}: the matrix is written", file=sys.stderr)
