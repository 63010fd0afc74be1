"""Generated suites on a real model: a broken one falls to the floor, and levels suit the model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.evaluation.lm_eval.levels import LevelScore, choose_levels
from tests.integration.conftest import Called, base_model, keys, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

EASY = {
    "needle": 128, "variables": 64, "tool_calls": 1, "instructions": 1, "arithmetic": 1,
    "lists": 1, "copying": 1,
}  # fmt: skip
"""The level of each suite that a model of 135 million parameters mostly gets right."""
ITEMS = 6


def scores(record: dict[str, Any], subject: str) -> dict[str, dict[str, Any]]:
    """Scores of a checkpoint by task."""
    (found,) = (
        entry["result"]
        for entry in record["stages"]
        if (entry["stage"], entry["subject"]) == ("tasks", subject)
    )
    return {task["task"]: task for task in found["tasks"]}


def main(task: dict[str, Any]) -> float:
    """Share of right answers."""
    return float(next(one["value"] for one in task["scores"] if one["metric"] == "acc"))


def test_a_broken_model_falls_to_the_floor_of_every_suite(
    command: Callable[..., Called], store: Path
) -> None:
    called = command(
        "method=rtn", "bits=w2a16", "group_size=per_tensor", "stages=[quantize,tasks]",
        "tasks=capabilities", f"tasks.names=[{','.join(EASY)}]", "tasks.levels.adaptive=false",
        *(f"tasks.own.{suite}.items.levels=[{level}]" for suite, level in EASY.items()),
        # A broken model comes to no end.
        *(f"tasks.own.{suite}.harness.generation_kwargs.max_gen_toks=32" for suite in EASY),
        f"tasks.limit={ITEMS}", f"tasks.batch_size={ITEMS}", "tracker=none", "sweep=two_bits",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    (record,) = records(store, "two_bits")
    before, after = scores(record, "baseline"), scores(record, "recipe")
    assert set(before) == set(after) == set(EASY)
    right = {suite: main(before[suite]) for suite in EASY}
    assert sum(right.values()) / len(right) > 0.6, right
    assert min(right.values()) > 0, right
    assert {suite: main(after[suite]) for suite in EASY} == dict.fromkeys(EASY, 0.0)
    for suite, level in EASY.items():
        (found,) = before[suite]["levels"]
        assert (found["level"], found["items"]) == (level, ITEMS)
        assert found["right"] == round(ITEMS * right[suite])


def test_levels_suit_the_model_and_lm_eval_itself_gives_the_same_scores(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    overrides = (
        "method=none", "stages=[tasks]", "tasks=capabilities", "tasks.names=[arithmetic]",
        "tasks.own.arithmetic.items.levels=[5,1,2]", "tasks.own.arithmetic.items.pilot=5",
        "tasks.limit=6", "tasks.batch_size=6", "tasks.levels.most=1.0", "eval.dtype=float32",
        "tracker=none",
    )  # fmt: skip
    called = command(*overrides, "sweep=levels")
    assert called.returncode == 0, called.stderr
    (record,) = records(store, "levels")
    (task,) = scores(record, "baseline").values()
    pilot = [LevelScore(**one) for one in task["pilot"]]
    assert [(one.level, one.items) for one in pilot] == [(1, 5), (2, 5), (5, 5)]
    chosen = choose_levels(pilot, 0.3, 1.0).levels
    assert chosen and 5 not in chosen
    assert [one["level"] for one in task["levels"]] == chosen
    assert sum(one["items"] for one in task["levels"]) == 6
    assert "level: right/items" in called.stdout

    (key,) = (key for _, key, _ in keys(record, "tasks"))
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "run", "--model", "hf",
            "--model_args", f"pretrained={base_model(store, record)},dtype=float32",
            "--device", "cpu", "--tasks", "arithmetic", "--limit", "6", "--batch_size", "6",
            "--include_path", str(store / "objects" / "tasks" / key / "tasks"),
            "--log_samples", "--output_path", str(tmp_path / "out"),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("samples_*.jsonl")
    theirs = {line["doc_id"]: line for line in map(json.loads, path.read_text().splitlines())}
    lines = (store / "objects" / "tasks" / key / "samples.jsonl").read_text().splitlines()
    ours = [json.loads(line) for line in lines]
    assert len(ours) == len(theirs) == 6
    for sample in ours:
        other = theirs[sample["item"]]
        assert sample["prompt_sha256"] == other["prompt_hash"]
        assert sample["answer"] == other["filtered_resps"][0]
        assert sample["scores"]["acc"] == other["acc"]

    again = command(*overrides, "sweep=levels_again")
    assert "levels of arithmetic: reused" in again.stderr
