"""A store of results that nobody computed: as many as asked for, chained and sealed like real ones.

``python -m benchmarks.many_results FOLDER [COUNT]`` makes one and times ``runner store`` on it.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from runner.store.objects import RESULT_FILE, Address, ObjectStore
from runner.store.provenance import write_seal
from runner.store.records import RunRecord, StageRecord, Status, write_record

_RUNS_OF_A_SWEEP = 500
_OLD_SECONDS = 7200.0
"""Younger results are not pruned."""


def write_store(root: Path, count: int) -> None:
    """Make ``count`` results below ``root``: checkpoints, and what was measured of them.

    Half of the sweeps keep their records, so half of the results are needed.
    """
    store = ObjectStore(root)
    chance = random.Random(0)
    model = _put(store, "model", {"model": "generated:1"}, chance)
    text = _put(store, "text", {"text": "prose"}, chance)
    for run in range((count - 2) // 5):
        windows = _put(store, "windows", {"text": text.key, "seed": run}, chance)
        determinants = {"model": model.key, "recipe": run, "windows": windows.key}
        made = _put(store, "quantize", determinants, chance)
        used = [made]
        for stage in ("eval", "bench", "tasks"):
            of = {"subject": {"checkpoint": made.key}, "text": text.key, "stage": stage}
            used.append(_put(store, stage, of, chance))
        sweep = run // _RUNS_OF_A_SWEEP
        if sweep % 2 == 0:
            _record(store, f"sweep-{sweep:03d}", run, used)


def _put(
    store: ObjectStore, stage: str, determinants: dict[str, Any], chance: random.Random
) -> Address:
    full = {**determinants, "versions": {f"package-{n}": "1.2.3" for n in range(20)}}
    address = Address.of(stage, full)
    place = store.directory(address)
    place.mkdir(parents=True)
    losses = [chance.random() for _ in range(200)]
    (place / RESULT_FILE).write_text(json.dumps({"result": {"losses": losses}, "resources": {}}))
    (place / "data.bin").write_bytes(chance.randbytes(4096))
    then = time.time() - _OLD_SECONDS
    os.utime(place / RESULT_FILE, (then, then))
    write_seal(place, full)
    return address


def _record(store: ObjectStore, sweep: str, run: int, used: list[Address]) -> None:
    stages = [
        StageRecord(
            one.stage, "recipe", one.key, False, 1.0, "default", {}, {"losses": [0.5] * 200}
        )
        for one in used
    ]
    record = RunRecord(
        sweep=sweep, run=f"{run:05d}-label", label="label", model="m", engine="hf",
        status=Status.ok, reason=None, started="2026-01-01T00:00:00+00:00", seconds=1.0,
        overrides=[], config={}, stages=stages,
    )  # fmt: skip
    write_record(store.runs, record)


def timed(root: Path, *words: str) -> float:
    """Seconds that ``runner store WORDS`` takes on the store below ``root``."""
    command = [sys.executable, "-m", "runner", "store", *words]
    variables = {**os.environ, "QUANT_RUNNER_STORE": str(root)}
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=variables)
    return time.monotonic() - start


def main() -> None:
    """Make the store where it is not there, and print what each verb takes."""
    root, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
    if not root.exists():
        write_store(root, count)
    some = next((root / "objects" / "quantize").iterdir()).name
    index = root / "cache" / "index.sqlite"
    index.unlink(missing_ok=True)
    for words in (
        ["list"], ["list"], ["show", some], ["verify"], ["prune"], ["prune", "--yes"], ["list"],
    ):  # fmt: skip
        print(f"runner store {' '.join(words)}: {timed(root, *words):.1f} s", flush=True)


if __name__ == "__main__":
    main()
