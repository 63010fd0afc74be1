"""What tracking costs: a plan, and a sweep whose results are there, with a tracker and without."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_REPETITIONS = 5
_RUNS = 100
_PLAN = ("plan", "model=llama31_8b", "plan.devices=[h100_sxm,h200_sxm]")
_SWEEP = (
    "-m", "model=tiny", "eval=quick", "eval.windows=4", "method=rtn", "bits=w8a16",
    f"calibration.seed=range({_RUNS})", "stages=[quantize,eval]",
)  # fmt: skip
_ANSWER = {"plan": b"verdict", "sweep": b"answer.json"}
"""Words by which the answer is known to be on the screen."""


def measure() -> str:
    """Seconds until the answer is on the screen and until the command ends, by tracker."""
    lines = []
    for tracker in ("none", "wandb"):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            more = [f"tracker={tracker}", f"store.root={root}/store"]
            plan = [*_PLAN, *more, f"hydra.run.dir={root}/out"]
            found = sorted(_timed(plan, root, _ANSWER["plan"]) for _ in range(_REPETITIONS))
            lines.append(f"plan of two devices, tracker {tracker}: {found[_REPETITIONS // 2]}")
            sweep = [*_SWEEP, *more, f"hydra.sweep.dir={root}/multirun"]
            # Rounding to nearest draws nothing: one run makes what the others find in the store.
            _timed([*sweep, "sweep=first"], root, _ANSWER["sweep"])
            again = _timed([*sweep, "sweep=again"], root, _ANSWER["sweep"])
            lines.append(f"{_RUNS} runs whose results are there, tracker {tracker}: {again}")
    return "\n".join(lines)


class Times(tuple[float, float, float]):
    """Seconds until the answer, until the end, and of processors."""

    def __str__(self) -> str:
        answer, end, busy = self
        return (
            f"answer after {answer:.2f} s, ended after {end:.2f} s ({busy:.2f} s of processors, "
            "the tracker's included)"
        )


def _timed(words: list[str], folder: Path, answer: bytes) -> Times:
    start, before = time.monotonic(), os.times()
    command = [sys.executable, "-m", "runner", *words]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    seen = start
    for line in process.stdout:
        if answer in line:
            seen = time.monotonic()
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)
    after = os.times()
    busy = after.children_user + after.children_system
    busy -= before.children_user + before.children_system
    return Times((seen - start, time.monotonic() - start, busy))
