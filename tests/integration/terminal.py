"""A terminal of a given size as a person sees it: tmux, installed through apt where root may."""

import os
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

_INTERVAL_SECONDS = 0.15
_ENDED = "ENDED WITH"


@dataclass(frozen=True)
class Seen:
    """What a command showed."""

    returncode: int
    frames: list[str]
    """The screen at every look at which it had changed, without trailing blanks."""
    scrollback: str
    """Everything that is left when it is over."""
    coloured: bool
    """Whether anything on any frame, or left at the end, was in colour."""


def tmux() -> str:
    """Path of tmux."""
    if shutil.which("tmux") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
        for request in (["update"], ["install", "-y", "--no-install-recommends", "tmux"]):
            subprocess.run([*apt, *request], check=True, stdout=subprocess.DEVNULL)
    found = shutil.which("tmux")
    if found is None:
        pytest.fail("the terminal's tests need tmux: apt install tmux")
    return found


def watch(
    command: list[str],
    columns: int,
    cwd: Path,
    variables: dict[str, str],
    *,
    look: Callable[[str], None] = lambda _: None,
    seconds: float = 600,
) -> Seen:
    """Run a command in a terminal of ``columns`` by 30 and look at it until it is over.

    Args:
        command: What to run.
        columns: Width of the terminal.
        cwd: Working directory.
        variables: Environment.
        look: Called with every frame, so that a test can hold what would pass too soon to be seen.
        seconds: Only ever reached by a hang.
    """
    server = [tmux(), "-L", f"test-{uuid.uuid4().hex[:8]}", "-f", "/dev/null"]
    environment = {**os.environ, **variables, "LC_ALL": "C.UTF-8"}
    # A size that a test runner says would be taken for the terminal's.
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*server, *arguments], env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    line = f"{shlex.join(command)}; echo {_ENDED} $?; exec sleep 600"
    size = ["-x", str(columns), "-y", "30"]
    call("new-session", "-d", *size, "-c", str(cwd), "sh", "-c", line)
    frames: list[str] = []
    coloured = False
    try:
        deadline = time.monotonic() + seconds
        while _ENDED not in (frames[-1] if frames else ""):
            assert time.monotonic() < deadline, frames[-1]
            raw = call("capture-pane", "-p", "-e")
            coloured = coloured or "\x1b[3" in raw
            frame = call("capture-pane", "-p").rstrip()
            if not frames or frame != frames[-1]:
                frames.append(frame)
            look(frame)
            time.sleep(_INTERVAL_SECONDS)
        left = call("capture-pane", "-p", "-S", "-").rstrip()
        code = int(left.rpartition(_ENDED)[2].split()[0])
        return Seen(code, frames, left, coloured)
    finally:
        subprocess.run([*server, "kill-server"], check=False, capture_output=True)
