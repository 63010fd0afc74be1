"""What tracking costs: a plan, and a sweep whose results are there, with a tracker and without."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
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
_PROGRAM = """
import atexit, pathlib, resource, sys
used = pathlib.Path(sys.argv.pop(1))

def tell():
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    times = [resource.getrusage(one) for one in whose]
    used.write_text(" ".join(str(one.ru_utime + one.ru_stime) for one in times))

atexit.register(tell)
from runner.cli.main import main
main()
"""


@dataclass(frozen=True, order=True)
class Cost:
    """Seconds of one command."""

    answer: float
    """Until the answer is on the screen."""
    end: float
    own: float
    """Of processors, of the process that works."""
    others: float
    """Of the tracker's process, and of workers."""

    def __str__(self) -> str:
        return (
            f"answer after {self.answer:.2f} s, ended after {self.end:.2f} s; processors: "
            f"{self.own:.2f} s in the command's process, {self.others:.2f} s in others"
        )


def measure() -> str:
    """Seconds until the answer is on the screen and until the command ends, by tracker."""
    lines = []
    for tracker in ("none", "wandb"):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            more = [f"tracker={tracker}", f"store.root={root}/store"]
            plan = [*_PLAN, *more, f"hydra.run.dir={root}/out"]
            found = sorted(_cost(plan, root, _ANSWER["plan"]) for _ in range(_REPETITIONS))
            lines.append(f"plan of two devices, tracker {tracker}: {found[_REPETITIONS // 2]}")
            sweep = [*_SWEEP, *more, f"hydra.sweep.dir={root}/multirun"]
            # Rounding to nearest draws nothing: one run makes what the others find in the store.
            _cost([*sweep, "sweep=first"], root, _ANSWER["sweep"])
            again = _cost([*sweep, "sweep=again"], root, _ANSWER["sweep"])
            lines.append(f"{_RUNS} runs whose results are there, tracker {tracker}: {again}")
    return "\n".join(lines)


def _cost(words: list[str], folder: Path, answer: bytes) -> Cost:
    used, start = folder / "used", time.monotonic()
    command = [sys.executable, "-c", _PROGRAM, str(used), *words]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    seen = start
    for line in process.stdout:
        if answer in line:
            seen = time.monotonic()
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, words)
    end = time.monotonic() - start
    own, others = map(float, used.read_text().split())
    return Cost(seen - start, end, own, others)
