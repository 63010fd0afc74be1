"""What starting the command costs, relative to starting Python alone."""

import subprocess
import sys
import time

_REPETITIONS = 7


def measure() -> str:
    """Medians of ``runner --help`` and ``runner --cfg job`` over that of an empty Python."""
    empty = _median([sys.executable, "-c", "pass"])
    lines = []
    for arguments in (["--help"], ["--cfg", "job"]):
        seconds = _median([sys.executable, "-m", "runner", *arguments])
        lines.append(
            f"runner {' '.join(arguments)}: {seconds:.2f} s, "
            f"{seconds / empty:.1f} times an empty Python ({empty:.3f} s)"
        )
    return "\n".join(lines)


def _median(command: list[str]) -> float:
    seconds = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[_REPETITIONS // 2]
