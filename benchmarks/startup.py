"""What starts cost: of the command, of a worker's imports, and what kept byte code saves."""

import os
import subprocess
import sys
import tempfile
import time

_REPETITIONS = 5
_IMPORTS = "import torch, transformers.models.llama.modeling_llama"


def measure() -> str:
    """Medians over that of an empty Python, with and without byte code that is kept."""
    with tempfile.TemporaryDirectory() as place:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
        # Python looks for byte code in an empty folder, and may not write any.
        anew = {**kept, "PYTHONPYCACHEPREFIX": place, "PYTHONDONTWRITEBYTECODE": "1"}
        runner = [sys.executable, "-m", "runner"]
        commands = {
            "runner --help": [*runner, "--help"],
            "runner --cfg job": [*runner, "--cfg", "job"],
            "runner stages=[plan]": [
                *runner, "stages=[plan]", "tracker=none", f"store.root={place}/store",
                f"hydra.run.dir={place}/out",
            ],
            "imports of a worker": [sys.executable, "-c", _IMPORTS],
        }  # fmt: skip
        empty = _median([sys.executable, "-c", "pass"], kept)
        lines = []
        for name, command in commands.items():
            seconds, compiling = _median(command, kept), _median(command, anew)
            lines.append(
                f"{name}: {seconds:.2f} s, {seconds / empty:.1f} times an empty Python "
                f"({empty:.3f} s); compiled at every start {compiling:.2f} s, "
                f"{compiling / seconds:.2f} times as long"
            )
    return "\n".join(lines)


def _median(command: list[str], variables: dict[str, str]) -> float:
    seconds = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=variables,
        )  # fmt: skip
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[_REPETITIONS // 2]
