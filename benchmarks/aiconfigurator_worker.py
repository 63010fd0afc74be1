"""What aiconfigurator says of cases, one JSON line each; runs under an interpreter that has it.

Nothing of this project is imported here, and aiconfigurator nowhere else; ``benchmarks.peers``
starts it. It does what the guide of aiconfigurator tells a user to do for one known deployment:
``cli estimate`` in its mode "agg", with measured tables first, and where those lack a shape, with
its own estimate from other tables (HYBRID).
"""

import csv
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

_SYSTEMS = {
    "a100_80_pcie": "a100_pcie",
    "a100_80_sxm": "a100_sxm",
    "arc_b60": "b60",
    "rtx_pro_6000": "rtx_pro_6000_server",
}
"""Its names of devices, where they are not ours."""

_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}
"""What the dense models of one's own table have in common with Llama: all that costs time."""

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Tried for an offline throughput, of which the highest counts."""

Modes = dict[str, str]
Deployment = dict[str, Any]


def main() -> None:
    """Answer each line of standard input with one of standard output."""
    logging.disable(logging.CRITICAL)
    answers, sys.stdout = sys.stdout, sys.stderr  # its own prints must not mix with answers
    peer = Peer()
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps({"id": case["id"]} | peer.answer(case)), file=answers, flush=True)


class Peer:
    """aiconfigurator with its tables."""

    def __init__(self) -> None:
        """Read which versions it holds, and its own list of measured runs."""
        import aiconfigurator_core
        from aiconfigurator.cli.api import cli_estimate
        from aiconfigurator.sdk.perf_database import get_supported_databases
        from aiconfigurator_core.sdk.common import DefaultHFModels

        self._estimate = cli_estimate
        self._versions = get_supported_databases()
        self._own = DefaultHFModels
        root = Path(aiconfigurator_core.__file__).parent
        self._configs = root / "model_configs"
        self._made = Path(tempfile.mkdtemp())
        with (root / "systems" / "silicon_sample.csv").open(encoding="utf-8") as file:
            self._runs = {row["id"]: row for row in csv.DictReader(file)}

    def answer(self, case: dict[str, Any]) -> dict[str, Any]:
        """Its value in the row's unit with what it used, or the reason why there is none."""
        system = _SYSTEMS.get(case["device"], case["device"])
        if not (versions := self._versions.get(system, {}).get(case["backend"])):
            return {"reason": f"aiconfigurator has no tables of {case['backend']} on {system}"}
        version = min(versions, key=lambda held: _distance(held, case["version"]))
        tensor_parallel = int(case["tensor_parallel"])
        fixed = {
            "model_path": self._model_path(case["identifier"], case["dimensions"]),
            "system_name": system,
            "backend_name": case["backend"],
            "backend_version": version,
            "isl": case["prompt_tokens"],
            "osl": case["output_tokens"],
            "tp_size": tensor_parallel,
        }
        modes = dict(case["modes"])
        stated = self._runs.get(case.get("run", ""), {}).get("gemm_quant_mode")
        if stated == "fp8_block" and "gemm_quant_mode" in modes:
            modes["gemm_quant_mode"] = stated  # its list knows that this FP8 had scales of blocks
        reasons: list[str] = []
        for tables in ("SILICON", "HYBRID"):
            for split in self._splits(case.get("run", ""), tensor_parallel, modes):
                deployment = fixed | split | {"database_mode": tables}
                try:
                    value = self._value(deployment, case)
                except Exception as error:  # whatever its layers raise is its reason
                    reasons.append(f"{type(error).__name__}: {error}")
                    continue
                return {"value": value, "version": version, "tables": tables.lower()}
        first = " ".join(reasons[0].split()).partition(". Try")[0]
        return {"reason": first[:160], "version": version}

    def _model_path(self, identifier: str, dimensions: dict[str, int]) -> str:
        """The identifier, or a folder with its config.json, so that no hub is needed."""
        name = identifier.replace("/", "--")
        kept = self._configs / f"{name}_config.json"
        if identifier in self._own or not (dimensions or kept.exists()):
            return identifier
        folder = self._made / name
        if not folder.exists():
            folder.mkdir()
            text = json.dumps(_LLAMA | dimensions) if dimensions else kept.read_text("utf-8")
            (folder / "config.json").write_text(text, encoding="utf-8")
        return str(folder)

    def _splits(self, run: str, degree: int, modes: Modes) -> list[Deployment]:
        """Ways to lay the model out, the likeliest first: the next is tried where it refuses one.

        Experts lie as its list says of this run, else each in pieces, else whole ones; the cache
        is as the engine has it by default, else as aiconfigurator would choose.
        """
        stated = self._runs.get(run, {})
        width, whole = (int(float(stated.get(f"moe_{kind}_size") or 0)) for kind in ("tp", "ep"))
        pairs = [(width, whole)] if width * whole == degree else []
        pairs += [(degree, 1), (1, degree)]
        own = {name: mode for name, mode in modes.items() if name != "kvcache_quant_mode"}
        return [
            chosen | {"moe_tp_size": width, "moe_ep_size": whole}
            for chosen in (modes, own)
            for width, whole in dict.fromkeys(pairs)
        ]

    def _value(self, deployment: Deployment, case: dict[str, Any]) -> float:
        """The metric that the row measured, in its unit."""
        metric = case["metric"]
        if metric == "max_output_tok_s":
            return self._highest_throughput(deployment)
        # Prompts of a fixed batch come together: its "static" mode, which schedules nothing.
        mode = {"mode": "static"} if metric == "e2e_s" else {}
        result = self._estimate(**deployment, **mode, batch_size=case["concurrency"])
        if metric == "tpot_ms":
            return float(result.tpot)
        if metric == "ttft_ms":
            return float(result.ttft)
        if metric == "e2e_s":
            return float(result.request_latency) / 1e3
        return float(result.tokens_per_second)

    def _highest_throughput(self, deployment: Deployment) -> float:
        """Output tokens a second of the best batch that its memory holds."""
        best = 0.0
        for batch in _BATCHES:
            try:
                result = self._estimate(**deployment, batch_size=batch)
            except RuntimeError as error:
                if best and "OOM" in str(error):
                    break
                raise
            if best and result.kv_cache_warning:
                break
            best = max(best, float(result.tokens_per_second))
        return best


def _distance(held: str, wanted: str) -> tuple[int, ...]:
    """How far apart two versions are, the first number counting most."""
    sides = [_numbers(held), _numbers(wanted or "0")]
    return tuple(abs(one - other) for one, other in zip(*sides, strict=True))


def _numbers(version: str) -> list[int]:
    """Four numbers of a version, ``1.3.0rc20`` being 1, 3, 0, 20."""
    found = [int(part) for part in "".join(c if c.isdigit() else " " for c in version).split()]
    return [*found, 0, 0, 0, 0][:4]


if __name__ == "__main__":
    main()
