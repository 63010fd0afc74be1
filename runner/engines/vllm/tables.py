"""Tables of what vLLM reads on GPUs: shipped for the pinned version, asked of any other."""

import functools
import json
import logging
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.engines.base import Software
from runner.util.paths import import_path
from runner.util.surroundings import ELSEWHERE, for_children

PINNED = "0.33.0"
"""Version in environment ``vllm_cuda``."""
SHIPPED = Path(__file__).parent / "reads"
_SECONDS = 600
_FEWER = ("w4a8", "w4a4", "w4a_")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """What one version of vLLM reads."""

    version: str
    capabilities: tuple[str, ...]
    """Compute capabilities that it was asked about."""
    rows: Mapping[str, Mapping[str, Mapping[str, Mapping[str, list[str]]]]]
    """By shape (``dense``, ``experts``) and format with row: group sizes, and of each the kernels
    with the capabilities that they are chosen at."""

    def groups(self, shape: str, form: str, row: str, capability: str | None) -> dict[str, str]:
        """Kernels by the group sizes that are read; at any capability where it is not known."""
        found = {}
        for group, kernels in self.rows[shape].get(f"{form}: {row}", {}).items():
            for kernel, capabilities in kernels.items():
                if capability is None or capability in capabilities:
                    found[group] = kernel
        return found

    def bits(self, shape: str, form: str, capability: str | None) -> list[str]:
        """Labels of the bits that are read of a format."""
        rows = (key.removeprefix(f"{form}: ") for key in self.rows[shape] if key.startswith(form))
        read = (row for row in rows if self.groups(shape, form, row, capability))
        return list(dict.fromkeys(row.split(" ")[0] for row in read))


def is_of_weights_alone(kernel: str, bits: str) -> bool:
    """Whether a kernel widens weights of a bits scheme and multiplies in 16 bits.

    Of others' kernels for 8 and 4 bits these take the place where a GPU has no units for those.
    Integers that meet activations of fewer bits (``w4a8``) only Humming and CUTLASS multiply so:
    vLLM 0.33 tells the other kernels for integers (Machete, Marlin) of 16-bit activations.
    """
    if bits.startswith(_FEWER):
        return not kernel.startswith(("Humming", "Cutlass"))
    return kernel.startswith(("Marlin", "Humming", "MARLIN", "HUMMING"))


@functools.cache
def read_table(file: Path) -> Table:
    """A table from its file."""
    content = json.loads(file.read_text("utf-8"))
    shapes = {name: content[name] for name in ("dense", "experts")}
    return Table(content["vllm"], tuple(content["capabilities"]), shapes)


def table_for(software: Software | None, capability: str | None) -> Table | None:
    """The table of a version: shipped, kept, or asked now of the vLLM that is installed.

    Args:
        software: vLLM as it would be used; ``None``: as it is pinned.
        capability: Of the GPU.

    Returns:
        ``None`` where it is not known what vLLM reads there.
    """
    version = PINNED if software is None else software.version
    shipped = SHIPPED / f"vllm-{version}.json"
    if shipped.exists():
        table = read_table(shipped)
        if capability is None or capability in table.capabilities:
            return table
    if software is None or software.python is None or capability is None:
        return None
    kept = software.cache / "vllm" / f"vllm-{version}-{capability}.json"
    if not kept.exists():
        _ask(software.python, version, capability, kept)
    return read_table(kept) if kept.exists() else None


@functools.cache  # once a process, where it fails
def _ask(python: str, version: str, capability: str, kept: Path) -> None:
    """Have the vLLM of an interpreter say what it reads; tens of seconds."""
    _log.warning("asking vLLM %s what it reads: a minute, and once", version)
    command = [python, "-m", "runner.engines.vllm.derive", str(kept), capability]
    variables = {**os.environ, **for_children(), "PYTHONPATH": str(import_path(kept.parent))}
    try:
        subprocess.run(
            command,
            env=variables,
            cwd=ELSEWHERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        _log.warning("it did not say: %s", (error.stderr.strip().splitlines() or [""])[-1])
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("it did not say: %s", error)
