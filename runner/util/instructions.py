"""Instruction sets that this process may use, and how to emulate another CPU's.

Everything that depends on what the CPU can do asks here, through ``Machine``. The variable
``QUANT_RUNNER_INSTRUCTION_SETS`` changes the answer in both directions: ``+NAME`` adds a set,
``-NAME`` takes one away, names alone replace them all. What is taken away is kept from torch's
kernels too (on x86), so that a run computes as it would on such a CPU; what is added is emulated.
"""

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from runner.errors import UsageError

VARIABLE = "QUANT_RUNNER_INSTRUCTION_SETS"
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Each has arithmetic in bfloat16: on x86, x86 with matrix tiles, and ARM."""
RELEVANT = frozenset(
    {"avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_fp16", "amx_int8", "amx_fp16"}
    | {"asimd", "i8mm", "sve"}
    | BFLOAT16
)


def reported(root: Path = Path("/")) -> list[str]:
    """Flags of this machine's CPU, as Linux lists them; empty elsewhere.

    Args:
        root: Where ``proc`` lies; another folder serves tests.
    """
    try:
        text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return []
    block, _, _ = text.partition("\n\n")  # CPUs are blocks, alike
    described = dict(re.findall(r"^(\S.*?)\s*: (.*)$", block, re.MULTILINE))
    return (described.get("flags") or described.get("Features") or "").split()


def usable(reported: Iterable[str]) -> tuple[str, ...]:
    """Those of ``RELEVANT`` that count, sorted.

    Args:
        reported: Flags of the CPU, as the system lists them.

    Raises:
        UsageError: The variable names a set that is not known.
    """
    available = set(RELEVANT.intersection(reported))
    signed_names = os.environ.get(VARIABLE, "").replace(",", " ").split()
    names = {one.lstrip("+-") for one in signed_names}
    if unknown := names - RELEVANT:
        raise UsageError(
            f"{VARIABLE} names {', '.join(sorted(unknown))}; "
            f"there are {', '.join(sorted(RELEVANT))}"
        )
    signed = [one for one in signed_names if one[0] in "+-"]
    if len(signed) < len(signed_names):
        available = names - {one[1:] for one in signed}
    for one in signed:
        available = available | {one[1:]} if one[0] == "+" else available - {one[1:]}
    return tuple(sorted(available))


def kernel_limits(instruction_sets: Iterable[str]) -> dict[str, str]:
    """Environment variables that keep torch's kernels to these sets; none unless overridden.

    ATen and oneDNN look at the CPU themselves. Both read their limit when they are loaded. Outside
    x86 they have none.
    """
    if VARIABLE not in os.environ or platform.machine() not in ("x86_64", "AMD64"):
        return {}
    sets = frozenset(instruction_sets)
    if "avx512f" not in sets:
        return {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    if sets.isdisjoint(BFLOAT16):
        return {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
    return {}
