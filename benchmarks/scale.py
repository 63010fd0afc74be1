"""What large stores, reports and sweeps cost: ``python -m benchmarks.scale [FIGURE ...]``.

Figures are ``store``, ``report``, ``sweep``, ``dry_run`` and ``memory``; by default all.
Each is measured on the command line, in a process of its own; memory is the process's peak.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.many_results import write_store
from benchmarks.synthetic import finished_sweep, real_sweep, write_sweep

_OBJECTS = 50_000
_RECORDS = 5_000
_COMBINATIONS = (
    "model=tiny", "eval=quick", "stages=[quantize,eval]", "method=rtn", "tracker=none",
    "bits=w2a16,w3a16,w4a16,w8a16", "group_size=g16,g32,g64,per_channel",
    "calibration.seed=range(625)", "dry_run=true",
)  # fmt: skip
_RUNNER = [sys.executable, "-m", "runner"]


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    seconds: float
    processor_seconds: float
    peak_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s ({self.processor_seconds:.1f} s of processor), "
            f"{self.peak_bytes / 1e6:.0f} MB of memory"
        )


def cost_of(command: list[str], folder: Path) -> Cost:
    """Carry a command out in ``folder``, what it prints thrown away.

    Raises:
        CalledProcessError: It failed.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # The usage of this very child, its own children's included.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    seconds = time.monotonic() - start
    return Cost(seconds, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss)


def _store(folder: Path) -> None:
    root = folder / "objects"
    write_store(root, _OBJECTS)
    some = next((root / "objects" / "quantize").iterdir()).name
    for words in (["show", some], ["show", some], ["verify"], ["prune"], ["prune", "--yes"]):
        found = cost_of([*_RUNNER, "store", *words, f"store.root={root}"], folder)
        said = " ".join(word if word != some else "NAME" for word in words)
        print(f"runner store {said}, {_OBJECTS:,} objects: {found}", flush=True)


def _report(folder: Path) -> None:
    root = folder / "reports"
    real = real_sweep(root)
    sweep = write_sweep(real, root / "runs", _RECORDS)
    command = [*_RUNNER, "stages=[report]", f"sweep={sweep.name}", f"store.root={root}"]
    found = cost_of([*command, f"hydra.run.dir={folder}/report"], folder)
    page = (sweep / "report.html").stat().st_size
    print(f"report of {_RECORDS:,} records: {found}, page of {page / 1e6:.1f} MB", flush=True)


def _sweep(folder: Path) -> None:
    root = folder / "sweeps"
    command = finished_sweep(real_sweep(root), root)
    runs = len([*(root / "runs" / "finished").glob("*/record.json")])
    print(f"sweep of {runs:,} finished runs, started again: {cost_of(command, folder)}", flush=True)


def _dry_run(folder: Path) -> None:
    root = folder / "sweeps"
    real_sweep(root)
    more = [f"store.root={root}", f"hydra.sweep.dir={folder}/dry"]
    found = cost_of([*_RUNNER, "-m", *_COMBINATIONS, *more], folder)
    print(f"dry run of 10,000 combinations: {found}", flush=True)


def _memory(folder: Path) -> None:
    root = folder / "plans"
    peaks = []
    for runs in (50, 250):
        command = [
            *_RUNNER, "-m", "model=tiny", "stages=[plan]", "plan=serve_70b", "tracker=none",
            f"calibration.seed=range({runs})", f"store.root={root}-{runs}",
            f"hydra.sweep.dir={folder}/plans",
        ]  # fmt: skip
        peaks.append(cost_of(command, folder).peak_bytes / 1e6)
    grown = (peaks[1] - peaks[0]) / 200 * 1000
    print(
        f"peak memory of a sweep of runs that are worked on: {peaks[0]:.0f} MB for 50, "
        f"{peaks[1]:.0f} MB for 250: {grown:.0f} kB a run",
        flush=True,
    )


FIGURES: dict[str, Callable[[Path], None]] = {
    "store": _store,
    "report": _report,
    "sweep": _sweep,
    "dry_run": _dry_run,
    "memory": _memory,
}


def main() -> None:
    """Measure what is asked for, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or FIGURES:
            FIGURES[name](Path(folder))


if __name__ == "__main__":
    main()
