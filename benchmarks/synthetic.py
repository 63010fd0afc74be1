"""Large sweeps that nobody ran: records of a real one again and again, figures of their own."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.store.files import write_checked_json

_SWEEP = (
    "model=tiny", "eval=quick", "eval.windows=16", "method=rtn", "bits=w3a16,w4a16,w8a16",
    "group_size=g16,g32,g64", "stages=[quantize,eval,bench]", "tracker=none",
)  # fmt: skip
_SEEDS = 112
"""So that nine recipes make about a thousand runs."""
_EFFECT, _NOISE = 0.03, 0.02
"""Nats: what a recipe does to all windows' losses, and to each by itself."""


def real_sweep(store: Path, name: str = "real") -> Path:
    """Run nine recipes of the smallest model; returns the sweep's folder of records."""
    folder = store / "runs" / name
    if not folder.is_dir():
        command = [sys.executable, "-m", "runner", "-m", *_SWEEP, f"sweep={name}"]
        command += [f"store.root={store}", f"hydra.sweep.dir={store}/multirun"]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=quiet, stderr=quiet)
    return folder


def records(real: Path, runs: int, sweep: str) -> Iterator[dict[str, Any]]:
    """Contents of records: real ones in turns, with a label, losses and speeds of their own."""
    texts = [path.read_text("utf-8") for path in sorted(real.glob("*/record.json"))]
    chance = random.Random(0)
    for number in range(runs):
        content = json.loads(texts[number % len(texts)])
        turn = number // len(texts)
        content["sweep"] = sweep
        content.pop("sha256", None)  # of the real one
        content["label"] += f",damp=0.{turn:04d}"
        content["run"] = f"{number:04d}-{content['label']}"
        content["overrides"].append(f"method.damp=0.{turn:04d}")
        content["config"]["sweep"] = sweep
        effect = chance.gauss(0, _EFFECT)
        for stage in content["stages"]:
            if stage["subject"] == "recipe":
                stage["key"] = f"{chance.getrandbits(128):032x}"
                stage["seconds"] *= chance.uniform(0.9, 1.1)
                _vary(stage["stage"], stage["result"], effect, chance)
        yield content


def write_sweep(real: Path, runs: Path, count: int, sweep: str = "many") -> Path:
    """The same as files; returns the sweep's folder."""
    for content in records(real, count, sweep):
        path = runs / sweep / content["run"] / "record.json"
        path.parent.mkdir(parents=True)
        write_checked_json(path, content)
    return runs / sweep


def finished_sweep(real: Path, store: Path, name: str = "finished") -> list[str]:
    """Records as if every seed of the real sweep's recipes had been run; returns the command.

    What rounds to nearest draws nothing, so every seed has the results that are there.
    """
    contents = [json.loads(path.read_text("utf-8")) for path in sorted(real.glob("*/record.json"))]
    number = 0
    for content in contents:
        content.pop("sha256", None)  # of the real one
        content["sweep"] = content["config"]["sweep"] = name
        for seed in range(_SEEDS):
            content["run"] = f"{number:03d}-{content['label']}"
            content["config"]["calibration"]["seed"] = seed
            path = store / "runs" / name / content["run"] / "record.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_checked_json(path, content)
            number += 1
    command = [sys.executable, "-m", "runner", "-m", *_SWEEP, f"calibration.seed=range({_SEEDS})"]
    return [*command, f"sweep={name}", f"store.root={store}", f"hydra.sweep.dir={store}/multirun"]


def _vary(stage: str, result: dict[str, Any], effect: float, chance: random.Random) -> None:
    if stage == "eval":
        found = result["perplexity"]
        shift = [effect + chance.gauss(0, _NOISE) for _ in found["window_losses"]]
        found["window_losses"] = [
            loss + own for loss, own in zip(found["window_losses"], shift, strict=True)
        ]
        factor = math.exp(sum(shift) / len(shift))
        found["value"] *= factor
        for end in ("estimate", "low", "high"):
            result["change"]["ratio"][end] *= factor
    if stage == "bench":
        factor = chance.uniform(0.98, 1.02)
        for batch in result["batches"]:
            speeds = batch["decode_tokens_per_second"]
            speeds["mean"] *= factor
            speeds["samples"] = [one * factor for one in speeds["samples"]]
        for turns in result.get("in_turns") or []:
            for end in ("estimate", "low", "high"):
                turns["decode"]["ratio"][end] *= factor
