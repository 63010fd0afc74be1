"""The process that logs: what it is told, and what becomes of it and of the runs it follows."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.config.schema.tracker import Tracker
from runner.reporting.display import Display
from runner.reporting.tracking.service import TrackingService
from runner.store.records import RunRecord
from tests.unit.records import recipe

pytestmark = pytest.mark.integration

TRACKER = """
import os
from pathlib import Path
from runner.reporting.tracking.base import FOLLOWED_PROCESS, TrackerImplementation, stage_metrics

class Told:
    def __init__(self, config):
        self.path = Path(config.directory) / "told"

    def say(self, *words):
        with self.path.open("a") as file:
            print(os.environ[FOLLOWED_PROCESS], *words, file=file)

    def log_stage(self, stage):
        self.say("stage", stage.stage, len(stage_metrics(stage)) > 2)

    def log_progress(self, title, done, total, what):
        self.say("progress", title, done, total, what)

    def finish(self, record):
        self.say("finish", record.run, record.status.value, record.reason)

def start(config, record, log):
    if config.notes == "die":
        os._exit(7)
    told = Told(config)
    told.say("start", record.run, config.notes)
    print("a library that prints")
    log.line(f"  told of {record.run}")
    return told

def promote(config, record, log):
    Told(config).say("promote", record.run)

TRACKER = TrackerImplementation(start, promote=promote, prepare=lambda config: None)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """Of a tracker in the working directory that notes what it is told."""
    plugin = tmp_path / "plugins" / "trackers" / "notes_it.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(TRACKER)
    monkeypatch.chdir(tmp_path)
    return Tracker(name="notes_it", directory=str(tmp_path))


@pytest.fixture
def record() -> RunRecord:
    return recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000)


def told(config: Tracker) -> list[str]:
    return (Path(config.directory) / "told").read_text().splitlines()


def test_a_run_is_followed_in_another_process_in_order_and_masked(
    config: Tracker, record: RunRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    config.notes = f"by hf_{'x' * 24}"
    service = TrackingService(Display())
    service.prepare(config)
    run = service.follow(config, record)
    run.log_progress("eval x", 1, 2, "windows")
    for stage in record.stages:
        run.log_stage(stage)
    run.finish(record)
    service.promote(config, record)
    service.close()
    us = str(os.getpid())
    stages = [f"{us} stage {stage.stage} True" for stage in record.stages]
    assert told(config) == [
        f"{us} start {record.run} by ***", f"{us} progress eval x 1 2 windows", *stages,
        f"{us} finish {record.run} ok None", f"{us} promote {record.run}",
    ]  # fmt: skip
    said = capfd.readouterr()
    assert said.err == f"  told of {record.run}\n"
    assert said.out == ""


def test_a_process_that_dies_costs_its_log_and_one_warning(
    config: Tracker, record: RunRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    config.notes = "die"
    service = TrackingService(Display())
    run = service.follow(config, record)
    for _ in range(200):
        run.log_stage(record.stages[0])
    run.finish(record)
    service.close()
    warning = "tracking stopped (its process ended with code 7); results are still in the store"
    assert capfd.readouterr().err == f"  warning: {warning}\n"


KILLED = """
import sys, time
from runner.config.schema.tracker import Tracker
from runner.reporting.display import Display
from runner.reporting.tracking.service import TrackingService
from tests.unit.records import recipe

service = TrackingService(Display())
config = Tracker(name="notes_it", directory=sys.argv[1])
service.follow(config, recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 90_000_000))
time.sleep(600)
"""


def test_runs_of_a_command_that_is_killed_are_closed(config: Tracker, record: RunRecord) -> None:
    root = Path(__file__).parents[2]
    command = subprocess.Popen(
        [sys.executable, "-c", KILLED, config.directory],
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    _wait_for(Path(config.directory) / "told", "start")
    command.send_signal(signal.SIGKILL)
    command.wait()
    _wait_for(Path(config.directory) / "told", "finish")
    assert told(config)[-1].endswith(
        f"finish {record.run} interrupted the command that carried it out was killed"
    )


def _wait_for(path: Path, word: str) -> None:
    deadline = time.monotonic() + 300
    while not path.is_file() or word not in path.read_text():
        assert time.monotonic() < deadline, f"never told of {word}"
        time.sleep(0.02)
