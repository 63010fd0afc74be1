"""The terminal as a person sees it: in tmux at 80 and 140 columns, in a pipe and under Slurm."""

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import TINY, Called
from tests.integration.terminal import Seen, watch

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]

SWEEP = ("-m", *TINY, "method=rtn", "bits=w4a16,w8a16,nf4", "stages=[quantize,eval]",
         "eval.windows=300", "tracker=none")  # fmt: skip
STATES = ("waiting", "running", "ok", "skipped")


class Hold:
    """Stops the work on an evaluation of a run until it was seen, however quick the machine is.

    A run evaluates twice, without and with quantization. Whichever is found at work is held: the
    first may be over between two looks. One that shows nothing, since it was held at its very
    end, goes on and the next one is held.
    """

    PATIENCE_LOOKS = 100

    def __init__(self, store: Path, sweep: str, run: str, shown: tuple[str, ...]) -> None:
        self.record = store / "runs" / sweep / run / "record.json"
        self.partial = store / "partial"
        self.shown = shown
        self.held: psutil.Process | None = None
        self.looks = 0
        self.was_seen = False

    def __call__(self, frame: str) -> None:
        """Stop the worker once it has scored a window; let it go when a frame shows it all."""
        if self.held is not None:
            self.looks += 1
            self.was_seen = all(part in frame for part in self.shown)
            if self.was_seen or self.looks > self.PATIENCE_LOOKS:
                self.held.resume()
                self.held = None
        elif not self.was_seen and self.record.exists():
            begun = {path.parent for path in self.partial.glob("eval-*/window-*.npy")}
            found = next(filter(None, map(self.worker, begun)), None)
            # It may end between being found and being stopped.
            with contextlib.suppress(psutil.NoSuchProcess):
                if found is not None:
                    found.suspend()
                    self.held, self.looks = found, 0

    def worker(self, partial: Path) -> psutil.Process | None:
        """The newest job of the process that writes a log of that evaluation."""
        logs = f"{partial.parent.parent}/logs/{partial.name}"
        for opened in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError, psutil.Error):
                if str(opened.readlink()).startswith(logs):
                    below = psutil.Process(int(opened.parts[2])).children(recursive=True)
                    jobs = [one for one in below if _is_server(one.parent())]
                    return max(jobs, key=lambda job: job.create_time(), default=None)
        return None


def _is_server(process: psutil.Process | None) -> bool:
    return process is not None and "runner.pipeline.worker.server" in process.cmdline()


@pytest.fixture(scope="module")
def seen(
    environment: dict[str, str], store: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Seen]:
    """The same sweep, measured anew, on a narrow and on a wide terminal."""

    def look(columns: int) -> Seen:
        sweep, run = f"seen_{columns}", "001-rtn-w8a16-g32"
        command = [sys.executable, "-m", "runner", *SWEEP, f"sweep={sweep}", "force=[eval]"]
        place = tmp_path_factory.mktemp("terminal")
        hold = Hold(store, sweep, run, (f"run {run}", "\neval ", " left"))
        found = watch(command, columns, place, environment, look=hold)
        assert hold.was_seen, found.scrollback
        return found

    return {columns: look(columns) for columns in (80, 140)}


def live(seen: Seen) -> list[str]:
    """The frames with the sweep's table."""
    return [frame for frame in seen.frames if "run of seen_" in frame and "sweep " in frame]


@pytest.mark.parametrize("columns", [80, 140])
def test_a_sweep_is_a_table_that_lives(seen: dict[int, Seen], columns: int) -> None:
    shown = seen[columns]
    assert shown.returncode == 0, shown.scrollback
    assert shown.coloured
    frames = live(shown)
    text = "\n".join(frames)
    for part in ("000-rtn-w4a16-g32", "running", "waiting", "of 3 runs", "of 3 stages",
                 "run 001-rtn-w8a16-g32", " left"):  # fmt: skip
        assert part in text, text
    assert re.search(r"^ *eval (unquantized|rtn-w8a16-g32)", text, re.MULTILINE), text
    wide = "decode tok/s" in text
    assert wide == (columns == 140)
    for frame in frames:
        lines = frame.splitlines()
        first = next(number for number, line in enumerate(lines) if "run of seen_" in line)
        rows = lines[first + 2 : first + 5]
        # A row that were too wide would break, and its second line name no state.
        assert all(any(state in row for state in STATES) for row in rows), frame


@pytest.mark.parametrize("columns", [80, 140])
def test_the_terminal_keeps_the_answer_and_what_went_wrong(
    seen: dict[int, Seen], columns: int
) -> None:
    left = seen[columns].scrollback
    assert "run of seen_" not in left, "the table is wiped off"
    assert "skipped:" in left
    assert "002-rtn-nf4" in left, "whose it was"
    answer = [line for line in left.splitlines() if "perpl" in line or "spread_128" in line]
    assert answer, left
    lines = left.splitlines()
    (first,) = (n for n, line in enumerate(lines) if line.lstrip(" ★").startswith("unquantized  "))
    assert lines[first + 1].lstrip(" ★").startswith("rtn-w4a16-g32"), "rows do not break"


def test_a_pipe_and_slurm_get_plain_lines(
    seen: dict[int, Seen], process: Callable[..., Called], environment: dict[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    assert seen
    piped = process(*SWEEP, "sweep=seen_80")
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "eval rtn-w8a16-g32: reused" in piped.stderr
    assert re.search(r"000-rtn-w4a16-g32  tiny  \[1 of 3(, about \d+ s left)?\]", piped.stderr)
    arguments = [sys.executable, "-m", "runner", *SWEEP, "sweep=seen_140"]
    under = watch(arguments, 140, tmp_path, {**environment, "SLURM_JOB_ID": "1"})
    assert "run of seen_" not in "".join(under.frames)
    assert "eval rtn-w8a16-g32: reused" in under.scrollback


def test_a_run_keeps_its_lines_in_a_log(seen: dict[int, Seen], store: Path) -> None:
    assert seen
    log = (store / "runs" / "seen_80" / "001-rtn-w8a16-g32" / "run.log").read_text()
    assert "eval rtn-w8a16-g32: done in" in log
    assert log.splitlines()[0].partition(" ")[0].endswith("+00:00"), "with the time"
