"""Which checkpoints vLLM accepts on GPUs, held against what the runner calls legal.

``python -m benchmarks.vllm_legality [STORE …]`` in a checkout whose environment ``vllm_cuda`` is
there, with a GPU or without. In that environment small models of every layout that the runner's
methods write, and with stores given those of their checkpoints, go through vLLM's
``EngineArgs(...).create_engine_config()``, and their layers are built on the ``meta`` device. The
table goes into docs/backends.md. Without NVIDIA's driver a stub of its libraries is compiled.
"""

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import GroupSize
from runner.engines.base import CheckpointFacts
from runner.engines.vllm import ENGINE
from runner.engines.vllm.derive import SHAPES, Asked, model_config
from runner.engines.vllm.layouts import Layout, layouts
from runner.methods import capabilities_of, find_method
from runner.methods.fp8 import Fp8
from runner.methods.rtn import Rtn
from runner.util.serialise import from_json

CAPABILITIES = ("8.0", "8.9", "9.0", "10.0")
_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "backends.md"
_MARKS = ("<!-- begin: vllm legality -->\n", "<!-- end: vllm legality -->\n")
_OTHERS = {"hidden_size": 1536, "intermediate_size": 2560, "num_attention_heads": 12}
"""Dimensions of the models, other than those that the table was derived from."""
_CHECKPOINTS = "objects/quantize/*/checkpoint"
_UNLISTED = ("g8", "g48")
"""Group sizes of which the table says nothing."""


@dataclass(frozen=True)
class Case:
    """A model, and what is known of it before it is made."""

    name: str
    shape: str
    config: dict[str, Any]
    layout: Layout | None = None
    recipe: dict[str, Any] | None = None
    """Of a store's checkpoint."""


def cases(stores: list[str]) -> Iterator[Case]:
    """Every layout, for layers of a dense model and for experts, and the stores' checkpoints."""
    asked = [*layouts(), *(Layout("compressed-tensors", "w4a16", one) for one in _UNLISTED)]
    for shape in SHAPES:
        plain = {**model_config(asked[0], shape, "bfloat16"), **_OTHERS}
        del plain["quantization_config"]
        yield Case(f"{shape} float", shape, plain)
        for layout in asked:
            config = {**plain, "quantization_config": layout.quantization_config()}
            name = f"{shape} {layout.format} {layout.row} {layout.group_size}"
            yield Case(name, shape, config, layout)
    for place in (path for store in stores for path in sorted(Path(store).glob(_CHECKPOINTS))):
        stored = json.loads((place / "config.json").read_text("utf-8"))
        made = json.loads((place.parent / "result.json").read_text("utf-8"))["result"]["recipe"]
        plain = {**model_config(asked[0], "dense", "bfloat16"), **_OTHERS}
        config = {**plain, "quantization_config": stored["quantization_config"]}
        yield Case(place.parent.name, "dense", config, recipe=made)


def inside(file: str, stores: list[str]) -> None:
    """In vLLM's environment: write the kernels, or the refusal, of every case and capability."""
    asked = Asked()
    found: dict[str, dict[str, list[Any]]] = {}
    for capability in CAPABILITIES:
        for case in cases(stores):
            try:
                answer = [True, " + ".join(asked.kernels(capability, case.config, "bfloat16"))]
            except Exception as error:  # of whatever class
                answer = [False, " ".join(str(error).split())[:200]]
            found.setdefault(case.name, {})[capability] = answer
    content = {"vllm": asked.version, "found": found}
    Path(file).write_text(json.dumps(content), "utf-8")


def legal(case: Case, capability: str) -> str | None:
    """Why the runner calls a case illegal; ``None`` if it does not."""
    if case.recipe is not None:
        return ENGINE.refusal(_of_recipe(case, capability))
    plain = CheckpointFacts(
        "float", None, None, None, "cuda", config=case.config, compute_capability=capability
    )
    layout = case.layout
    if layout is None:
        return ENGINE.refusal(plain)
    label = re.fullmatch(r"(w|fp)(\d)(?:_e4m3)?(?:_?a(\d+|_fp8_e4m3))?", layout.bits)
    assert label is not None, layout.bits
    weight = _number(label[1], int(label[2]))
    meets = label[3] or ("8" if weight.num_bits == 8 else "16")
    activation = _number("fp", 8) if meets == "_fp8_e4m3" else _number(label[1], int(meets))
    rounds = Rtn(name="rtn", sym=not layout.zero_points)
    facts = replace(
        plain,
        format=layout.format,
        bits=Bits(weight, activation),
        group_size=GroupSize.named(layout.group_size),
        method=Fp8(name="fp8", kv_cache=True) if layout.kv_cache else rounds,
    )
    return ENGINE.refusal(facts)


def _number(family: str, width: int) -> NumberFormat:
    """Integers (``w``) or floats (``fp``) of a width; of 16 bits neither is quantized."""
    if width == 16:
        return NumberFormat(NumberType.bfloat, 16)
    if family == "w":
        return NumberFormat(NumberType.int, width)
    return NumberFormat(NumberType.float, width, 4 if width == 8 else None)


def _of_recipe(case: Case, capability: str) -> CheckpointFacts:
    assert case.recipe is not None
    method = from_json(find_method(case.recipe["method"]["name"]).config, case.recipe["method"])
    return CheckpointFacts(
        capabilities_of(method).checkpoint_format,
        from_json(Bits, case.recipe["bits"]),
        from_json(GroupSize, case.recipe["group_size"]),
        method,
        "cuda",
        config=case.config,
        compute_capability=capability,
    )


def compare(found: Mapping[str, Any], stores: list[str]) -> tuple[int, list[str]]:
    """How many cases agree, and the others in words."""
    agree, others = 0, []
    for case in cases(stores):
        for capability in CAPABILITIES:
            accepted, said = found[case.name][capability]
            reason = legal(case, capability)
            if accepted == (reason is None):
                agree += 1
            else:
                verdict = "legal" if reason is None else f"illegal ({reason})"
                others.append(f"{case.name} at {capability}: {verdict}; vLLM: {said}")
    return agree, others


def table(version: str, found: Mapping[str, Any]) -> str:
    """Markdown: a row for each format and bits, a column for each capability."""
    lines = [
        f"What vLLM {version} reads, by compute capability: the kernel, and the groups that it "
        "is chosen for in the linear layers of dense models.",
        "",
        f"| format | bits | {' | '.join(CAPABILITIES)} |",
        f"|---|---|{'---|' * len(CAPABILITIES)}",
    ]
    rows: dict[tuple[str, str], dict[str, list[tuple[str, str]]]] = {}
    for case in cases([]):
        layout = case.layout
        if case.shape != "dense" or layout is None or layout.group_size in _UNLISTED:
            continue
        key = (layout.format, layout.row)
        for capability in CAPABILITIES:
            accepted, said = found[case.name][capability]
            row = rows.setdefault(key, {}).setdefault(capability, [])
            if accepted:
                row.append((layout.group_size, said))
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (form, bits), row in rows.items():
        cells = tuple(_cell(row[capability]) for capability in CAPABILITIES)
        if any(cells):
            alike.setdefault((form, cells), []).append(bits)
    for (form, cells), together in alike.items():
        lines.append(f"| {form} | {', '.join(together)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(read: list[tuple[str, str]]) -> str:
    kernels: dict[str, list[str]] = {}
    for group, said in read:
        kernel = re.sub(r"(ScaledMM)?(Linear)?(Kernel|Method)", "", said)
        kernels.setdefault(kernel, []).append(group.replace("_", " "))
    return "; ".join(f"{kernel}: {', '.join(groups)}" for kernel, groups in kernels.items())


def measure(stores: list[str]) -> str:
    """Ask vLLM, compare, write the page's table; returns what came out."""
    from runner.api import compose_config
    from runner.environments.manager import EnvironmentManager
    from tests.stub_driver import CUDA, compiled

    config = compose_config()
    root = Path(config.store.environments).expanduser().resolve()
    ready = EnvironmentManager(root, root).find(config.environment["vllm_cuda"])
    if ready is None:
        raise SystemExit("there is no environment vllm_cuda: runner env create vllm_cuda")
    variables = {**os.environ, "PYTHONPATH": str(_ROOT)}
    try:
        ctypes.CDLL(CUDA)
    except OSError:
        variables["LD_LIBRARY_PATH"] = str(compiled(CUDA).parent)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = [ready.python, "-m", "benchmarks.vllm_legality", f"--inside={file}", *stores]
        subprocess.run(command, env=variables, cwd=_ROOT, check=True, stderr=subprocess.DEVNULL)
        answer = json.loads(file.read_text("utf-8"))
    agree, others = compare(answer["found"], stores)
    begin, end = _MARKS
    before, _, rest = _PAGE.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    content = table(answer["vllm"], answer["found"])
    _PAGE.write_text(f"{before}{begin}\n{content}\n{end}{after}", "utf-8")
    told = "".join(f"\n  {one}" for one in others)
    return f"vLLM {answer['vllm']} and legality agree on {agree} of {agree + len(others)}{told}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m benchmarks.vllm_legality")
    parser.add_argument("stores", nargs="*", metavar="STORE")
    parser.add_argument("--inside", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(given.inside, given.stores)
        sys.exit()
    print(measure(given.stores))
