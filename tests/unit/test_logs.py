"""Logs of processes: bounded, without secrets, whatever is printed."""

import subprocess
import sys
from pathlib import Path

import pytest

from runner.reporting.display.run_log import RunLog
from runner.util.logs import LINE_CHARACTERS, BoundedLog, Pump, last_lines, shorten

pytestmark = pytest.mark.unit

LIMIT = 200_000
SECRET = "tulips-and-daffodils"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", SECRET)


def printed(program: str, log: BoundedLog) -> int:
    """Have a process print into a log; returns its exit code."""
    pump = Pump(log)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=pump.end, stderr=pump.end, start_new_session=True
    )
    pump.started()
    code = process.wait()
    pump.close()
    return code


def test_what_is_little_is_kept_whole(tmp_path: Path) -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); print('no end', end='')"
    assert printed(program, BoundedLog(path := tmp_path / "deep" / "log")) == 0
    assert sorted(path.read_text().split("\n")) == ["err", "no end", "out"]


@pytest.mark.parametrize(
    ("piece", "is_text"),
    [(b"a line of a text\n", True), (b"no newline ", True), (bytes(range(256)), False)],
    ids=["lines", "no newline", "binary"],
)
@pytest.mark.parametrize("at_once", [1, 777, 300_000])
def test_the_first_and_the_last_are_kept(
    piece: bytes, is_text: bool, at_once: int, tmp_path: Path
) -> None:
    content = b"the beginning\n" + piece * (3 * LIMIT // len(piece)) + b"\nthe end"
    if at_once == 1:
        content = content[:1_000] + b"\nthe end"
    log = BoundedLog(tmp_path / "log", LIMIT)
    for start in range(0, len(content), at_once):
        log.write(content[start : start + at_once])
    log.close()
    kept = log.path.read_bytes()
    assert kept.startswith(b"the beginning\n")
    assert kept.endswith(b"\nthe end")
    if at_once == 1:
        assert kept == content
        return
    assert 0.9 * LIMIT < len(kept) < LIMIT + 200
    assert b"bytes omitted" in kept
    if is_text:
        assert kept.count(piece) > 0.9 * LIMIT / len(piece)


def test_a_process_that_prints_without_end_is_read_for_ever(tmp_path: Path) -> None:
    # Many times what a pipe, and what a log has room for: it would stand still otherwise.
    program = "import os; [os.write(1, b'y' * 65536) for _ in range(300)]; os.write(1, b'over')"
    log = BoundedLog(tmp_path / "log", LIMIT)
    assert printed(program, log) == 0
    assert log.path.read_bytes().endswith(b"over")
    assert log.path.stat().st_size < LIMIT + 200


@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("at_once", [1, 5, 64, 65_536])
def test_no_secret_is_cut_in_two(newline: bytes, at_once: int, tmp_path: Path) -> None:
    around = b"x" * (10 if at_once < 64 else 30_000)
    content = (around + SECRET.encode() + around + newline) * (20 if at_once < 64 else 40)
    log = BoundedLog(tmp_path / "log", LIMIT if at_once > 5 else 400)
    for start in range(0, len(content), at_once):
        log.write(content[start : start + at_once])
    log.close()
    kept = log.path.read_text()
    assert "***" in kept
    for part in (SECRET, SECRET[:10], SECRET[-10:]):
        assert part not in kept


def test_a_private_key_is_masked_over_its_lines(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log")
    lines = [
        "before",
        "-----BEGIN PRIVATE KEY-----",
        "MIIEvQ",
        "IBADAN",
        "-----END PRIVATE KEY-----",
    ]
    for line in [*lines, "after"]:
        log.write(f"{line}\n".encode())
    log.close()
    assert log.path.read_text() == "before\n***\nafter\n"


def test_output_goes_to_the_log_of_its_time(tmp_path: Path) -> None:
    server, job = BoundedLog(tmp_path / "server"), BoundedLog(tmp_path / "job")
    pump = Pump(server)
    program = "print(input(), flush=True)\nprint(input(), flush=True)\nprint(input())"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdin=subprocess.PIPE, stdout=pump.end, text=True
    )
    pump.started()
    assert process.stdin is not None
    assert pump.turn_to(job) is server
    process.stdin.write("of the job\nof the job too\n")
    process.stdin.flush()
    while job.path.read_text().count("\n") < 2:
        pass
    assert pump.turn_to(server) is job
    assert job.last_lines(1) == ["of the job too"]
    process.communicate("of the server\n")
    pump.close()
    assert server.path.read_text() == "of the server\n"


def test_a_pipe_is_left_though_somebody_goes_on_printing(tmp_path: Path) -> None:
    pump = Pump(BoundedLog(tmp_path / "log", LIMIT))
    process = subprocess.Popen(["yes"], stdout=pump.end)
    pump.started()
    pump.close()
    pump.close()  # as often as one likes
    assert process.wait() != 0, "nobody reads what it prints: it ends"
    assert (tmp_path / "log").stat().st_size < LIMIT + 200


def test_the_log_of_a_run_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.reporting.display.run_log.LIMIT_BYTES", LIMIT)
    monkeypatch.setattr(
        "runner.reporting.display.run_log.shorten", lambda path: shorten(path, LIMIT)
    )
    log = RunLog(tmp_path)
    for number in range(3_000):
        log.write(f"line {number} {'x' * 200}")
    log.write("y" * 1_000_000)
    kept = log.path.read_text()
    assert len(kept) < 1.1 * LIMIT
    assert "line 0 " in kept and "line 2999 " in kept and "bytes omitted" in kept


def test_lines_that_are_shown_fit_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n\n 10%\r 50%\r100%\n\x1b[2Jred\x00\xff\n" + b"y" * 1_000_000)
    *_, bar, control, long = last_lines(path, 3)
    assert (bar, control[-4:-2]) != ("", "")
    assert all(line.isprintable() for line in (bar, control, long))
    assert len(long) <= LINE_CHARACTERS + 1
    assert last_lines(tmp_path / "missing", 3) == []


def test_a_log_that_others_filled_is_shortened_before_it_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * 2 * LIMIT + b"\nlast\n")
    log = BoundedLog(path, LIMIT, after_others=True)
    log.write(b"more\n")
    log.close()
    kept = path.read_bytes()
    assert kept.startswith(b"first\n") and kept.endswith(b"\nlast\nmore\n")
    assert b"bytes omitted" in kept and len(kept) < LIMIT


def test_a_pipe_that_somebody_else_has_emptied_is_waited_for(tmp_path: Path) -> None:
    pump = Pump(BoundedLog(tmp_path / "log"))
    assert pump._take(), "nothing was there, and something may come"
    pump.started()
    pump.close()
