"""The report: a page for people and the same as JSON."""

import json
import platform
import re
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpu_check.checks.figures import rows
from gpu_check.outcome import Outcome, State, summary
from gpu_check.setting import Setting, bytes_in_words
from runner.environments.ready import installed_versions
from runner.util.serialise import to_json

_CONTROL = ("quant-runner", "hydra-core", "torch")


def device_name(setting: Setting) -> str:
    """``nvidia-h100-80gb-hbm3``; several are ``2-x-nvidia-h100-80gb-hbm3-nvidia-l4``."""
    names = _called([gpu.name for gpu in setting.gpus])
    return re.sub(r"[^a-z0-9]+", "-", names.lower()).strip("-")


def _called(names: Sequence[str]) -> str:
    """GPUs by their names, those alike counted; a machine without any is a CPU."""
    counts = Counter(names)
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counts.items()) or "CPU"


def content(setting: Setting, outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """All that is known, ready for JSON."""
    facts = dict(setting.facts)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(setting),
        "gpus": [to_json(gpu) for gpu in setting.gpus],
        "driver": facts.pop("driver", {}),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": _versions(setting),
        "overrides": list(setting.overrides),
        "seconds": round(seconds, 1),
        "budget_seconds": setting.budget.seconds,
        "summary": summary(outcomes),
        "checks": [
            {
                "name": one.name,
                "state": one.state.value,
                "seconds": round(one.seconds, 1),
                "detail": one.detail,
                "log": one.log,
            }
            for one in outcomes
        ],
        "recipes": rows(setting),
        "commands": setting.commands,
        **facts,
    }


def _versions(setting: Setting) -> dict[str, dict[str, str]]:
    """Of what decides results, by the environment that it is in."""
    own = installed_versions(sys.executable)
    found = {"runner": {name: own[name] for name in _CONTROL if name in own}}
    for records in setting.records.values():
        for stage in (stage for record in records for stage in record.stages):
            told = {name: v for name, v in stage.versions.items() if v != "absent"}
            found[stage.environment] = found.get(stage.environment, {}) | told
    return found


def page(found: dict[str, Any]) -> str:
    """The same for people, in Markdown."""
    driver = found["driver"]
    versions = "; ".join(
        f"{environment}: {', '.join(' '.join(one) for one in sorted(packages.items()))}"
        for environment, packages in found["versions"].items()
    )
    parts = [
        f"# {_called([gpu['name'] for gpu in found['gpus']])}",
        f"`make gpu-check`, {found['date'][:10]}, {found['seconds']:.0f} of "
        f"{found['budget_seconds']:.0f} s. Driver {driver.get('driver', 'unknown')}, CUDA "
        f"{driver.get('cuda_driver', 'unknown')}, Python {found['python']}.",
        f"Versions by environment: {versions}.",
    ]
    if found["overrides"]:
        parts.append(f"Overrides: `{' '.join(found['overrides'])}`.")
    count = ", ".join(f"{number} {state}" for state, number in found["summary"].items() if number)
    parts += ["## Checks", f"{count}.", _table(
        ("check", "", "seconds", "found"),
        [(one["name"], one["state"], one["seconds"], one["detail"]) for one in found["checks"]],
    )]  # fmt: skip
    if found["recipes"]:
        parts += [
            "## Recipes",
            "The model is generated: its perplexity says that GPU and library compute, nothing "
            "else. The bound is the measured bandwidth over the bytes that a step reads.",
            _table(
                ("recipe", "bits/weight", "perplexity", "batch", "decode tok/s", "bound tok/s",
                 "MBU", "prefill MFU", "ms a step", "predicted", "weights", "peak"),
                [_recipe(one) for one in found["recipes"]],
            ),
        ]  # fmt: skip
    if limits := found.get("limits"):
        parts += ["## Limits", _table(
            ("", "GB/s", "teraflops"),
            [(one["source"], _number((one["bandwidth_bytes_per_second"] or 0) / 1e9 or None),
              ", ".join(f"{name} {rate:.4g}" for name, rate in one["peak_teraflops"].items()))
             for one in limits],
        )]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _recipe(one: dict[str, Any]) -> tuple[Any, ...]:
    predicted = one["predicted_seconds"]
    return (
        one["recipe"],
        _number(one["bits_per_weight"]),
        _number(one["perplexity"]),
        one["batch"],
        _number(one["decode_tokens_per_second"]),
        _number(one["bound_tokens_per_second"]),
        _number(one["mbu"]),
        _number(one["prefill_mfu"]),
        _number(1e3 * one["step_seconds"]),
        _number(1e3 * predicted if predicted else None),
        bytes_in_words(one["weight_bytes"]),
        bytes_in_words(peak) if (peak := one["device_peak_memory_bytes"]) else "",
    )


def _number(value: float | None) -> str:
    """Empty where it is not known."""
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heads), line(["---"] * len(heads)), *map(line, lines)])


def write(found: dict[str, Any], folder: Path) -> Path:
    """Write page and JSON; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1, default=str, ensure_ascii=False) + "\n"
    (folder / f"{found['device']}.json").write_text(text, encoding="utf-8")
    path = folder / f"{found['device']}.md"
    path.write_text(page(found), encoding="utf-8")
    return path


def failed(outcomes: Sequence[Outcome]) -> bool:
    """Whether something that was checked does not hold."""
    return any(one.state is State.failed for one in outcomes)
