"""A run is running as long as its process lives, and no longer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli.store import execute
from runner.store.liveness import carried_out, is_carried_out
from runner.store.records import OPEN, Status, close_record, read_record, write_record
from tests.unit import records

pytestmark = pytest.mark.unit


@pytest.fixture
def place(store: Path) -> Path:
    """Path of a record that has been opened."""
    begun = records.record(0, "gptq", [], status=Status.interrupted, reason=OPEN, seconds=None)
    return write_record(store / "runs", begun)


def status(place: Path) -> Status:
    record = read_record(place)
    assert record is not None
    return record.status


def test_a_run_whose_process_lives_is_running(place: Path) -> None:
    with carried_out(place), carried_out(place):  # two starts of one sweep
        assert status(place) is Status.running
        assert is_carried_out(place), "looking again and again changes nothing"
    assert status(place) is Status.interrupted
    record = read_record(place)
    assert record is not None
    assert record.reason == "interrupted: the process died"


def test_other_runs_are_not_running(place: Path, store: Path) -> None:
    other = records.record(1, "rtn", [], status=Status.interrupted, reason=OPEN, seconds=None)
    beside = write_record(store / "runs", other)
    with carried_out(place):
        assert status(beside) is Status.interrupted


def test_a_store_that_knows_no_locks_tells_nothing(place: Path) -> None:
    record = read_record(place)
    assert record is not None
    assert (record.status, record.reason) == (Status.interrupted, OPEN)


def test_a_killed_process_leaves_its_run_interrupted(place: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; "
        "from runner.store.liveness import carried_out\n"
        "with carried_out(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(place)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert status(place) is Status.running
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert status(place) is Status.interrupted


def test_a_run_that_is_over_or_waits_is_not_looked_at(store: Path) -> None:
    for number, (how, reason) in enumerate(
        [(Status.ok, None), (Status.interrupted, "stopped by the user"), (Status.failed, OPEN)]
    ):
        path = write_record(
            store / "runs", records.record(number, "gptq", [], status=how, reason=reason)
        )
        with carried_out(path):
            assert status(path) is how


def test_a_scheduler_that_knows_better_closes_it(place: Path) -> None:
    with carried_out(place):
        close_record(place, Status.timeout, "it exceeded its time limit")
        assert status(place) is Status.timeout


def test_a_running_sweep_is_not_pruned(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = place.parent.parent.name
    with carried_out(place):
        assert execute(["prune", "--yes", sweep]) == 2
        assert "is running" in capsys.readouterr().err
        assert execute(["list"]) == 0
        assert f"sweep {sweep}: 1 running" in capsys.readouterr().out
    assert place.exists()
    assert execute(["prune", "--yes", sweep]) == 0
    assert not place.exists()
