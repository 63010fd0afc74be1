"""The zoo of architectures, for tests: its models, sweeps of its own and what records say."""

from pathlib import Path
from typing import Any

from runner.util.paths import conf_dir
from tests.integration.conftest import here, records

MODELS = sorted(path.stem for path in (conf_dir() / "model" / "zoo").glob("*.yaml"))
SWEEP = """
defaults:
  - config
  - override model: zoo/llama3
  - override eval: quick
  - override calibration: python_docs
  - override tracker: none
  - override text@eval.text: python_code
  - _self_
stages: [quantize, eval]
calibration: {samples: 8, sequence_length: 128}
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
"""
Cells = dict[tuple[str, str, str], dict[str, Any]]
"""Records by model, recipe and engine."""


def run(name: str, grids: str, store: Path, variables: dict[str, str], work: Path) -> Cells:
    """Carry out grids over the zoo."""
    (work / "sweeps").mkdir()
    (work / "sweeps" / f"{name}.yaml").write_text(SWEEP + grids)
    here("-cn", name, f"sweep={name}", cwd=work, variables=variables)
    found = records(store, name)
    assert found
    return {
        (r["model"].removeprefix("zoo_"), r["label"].split(",calibration")[0], r["engine"]): r
        for r in found
    }


def broken(cells: Cells) -> list[str]:
    """Cells that neither worked nor were refused with a reason before any work."""
    found = []
    for cell, record in cells.items():
        worked = any(entry["stage"] in ("quantize", "eval") for entry in record["stages"])
        refused = record["status"] == "skipped" and record["reason"]
        baseline = refused and all(
            entry["subject"] == "baseline" for entry in record["stages"] if entry["stage"] == "eval"
        )
        if record["status"] != "ok" and not (refused and (baseline or not worked)):
            found.append(f"{' '.join(cell)}: {record['status']} {record['reason']}")
    return found
