"""What the warm parent of workers imports leaves its children able to use the GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from tests.stub_driver import CUDA, compiled

pytestmark = pytest.mark.unit

_STARTS = "import ctypes; driver = ctypes.CDLL({library!r}); driver.cuInit(0)"
_ASKS = """
import ctypes
from runner.util.gpus import uses_cuda
found = [uses_cuda()]
driver = ctypes.CDLL({library!r})
found.append(uses_cuda())
driver.cuInit(0)
print([*found, uses_cuda()])
"""

_LEAVES = """
import atexit, gc, os, sys
kept = []
class Slow:
    def __del__(self):
        print("taken apart", file=sys.stderr)
kept.append(Slow())
print(gc.isenabled(), file=sys.stderr)
atexit.register(lambda: print(gc.isenabled(), gc.collect(), file=sys.stderr))
"""


def _variables(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(folder), str(Path(runner.__file__).parents[1])])
    return {**os.environ, "PYTHONPATH": path}


def test_cuda_is_in_use_once_somebody_began_to_use_it(tmp_path: Path) -> None:
    """Not where its library is only loaded."""
    program = _ASKS.format(library=str(compiled(CUDA)))
    command = [sys.executable, "-c", program]
    asked = subprocess.run(command, env=_variables(tmp_path), capture_output=True, check=True)
    assert asked.stdout.strip() == b"[False, False, True]"


def test_a_parent_ends_at_once_having_done_what_its_libraries_asked_for(tmp_path: Path) -> None:
    """A job finds the search for garbage as Python has it."""
    (tmp_path / "preloaded.py").write_text(_LEAVES)
    module = ["-m", "runner.pipeline.worker.server", "--patches=", "--reused=", "preloaded"]
    done = subprocess.run(
        [sys.executable, *module], env=_variables(tmp_path), input=b"", capture_output=True,
        check=True,
    )  # fmt: skip
    assert done.stderr.split() == [b"False", b"True", b"0"]


def test_a_parent_whose_imports_begin_to_use_cuda_starts_anew_without_them(tmp_path: Path) -> None:
    """No process forked from it could use the GPU."""
    (tmp_path / "preloaded.py").write_text(_STARTS.format(library=str(compiled(CUDA))))
    server = [
        sys.executable,
        "-m",
        "runner.pipeline.worker.server",
        "--patches=",
        "--reused=",
        "preloaded",
    ]
    with subprocess.Popen(
        server, env=_variables(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert b"ready" in process.stdout.readline()
        command = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        process.stdin.close()
    assert "--patches=" in command and "preloaded" not in command
