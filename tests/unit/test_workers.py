"""The control side of workers: ends of servers and jobs, and results that cannot be reused."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.api import run
from runner.config.schema.environment import Environment
from runner.config.schema.store import Verify
from runner.environments.ready import ReadyEnvironment
from runner.errors import StageError
from runner.pipeline.compared import Compared
from runner.pipeline.session import Session
from runner.pipeline.stage_job import StageJob, WorkerTask
from runner.pipeline.stages.jobs.hardware import STAGE as HARDWARE
from runner.pipeline.worker import pool, server
from runner.pipeline.worker.failed import WorkerFailed
from runner.pipeline.worker.job import run_job
from runner.pipeline.worker.model_cache import ModelCache
from runner.pipeline.worker.pool import keep_workers, kept_workers, oom_kills
from runner.pipeline.worker.protocol import Job
from runner.reporting.display import Display
from runner.reporting.observed import ObservedSession
from runner.store.objects import RESULT_FILE, Address
from runner.store.records import Status
from tests.unit.test_inventory import put

pytestmark = pytest.mark.unit


def job(folder: Path, **others: Any) -> Job:
    """One that has the stage ``mine`` of the folder's plug-ins carried out."""
    return Job(
        stage="mine", request={}, output=str(folder), result_file="result.json",
        partial=str(folder / "partial"), cache=str(folder / "cache"), log=str(folder / "job.log"),
        directory=str(folder), threads=1, **others,
    )  # fmt: skip


def serving(script: str, folder: Path) -> pool._Server:
    """A program of the shell in place of the parent of workers."""
    return pool._Server(pool.Start(("sh", "-c", script), ()), folder / "logs")


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("read line; echo out of luck >&2; exit 3", "parent process ended with code 3"),
        ("read line; kill -9 $$", "was killed (SIGKILL; often the kernel's out-of-memory killer)"),
        ("read line; kill -10 $$", "parent process was killed by SIGUSR1"),
        ("exec 0<&-; exit 3", "parent process ended with code 3"),
    ],
)
def test_a_job_fails_when_the_parent_of_workers_ends(
    script: str, said: str, tmp_path: Path
) -> None:
    one = serving(script, tmp_path)
    if "read" not in script:
        one._process.wait()
    with pytest.raises(WorkerFailed) as caught:
        one.run(job(tmp_path), lambda _: None)
    one.stop()
    assert said in str(caught.value)
    assert caught.value.log_tail == (["out of luck"] if "luck" in script else [])


def test_a_job_that_ends_without_a_word_is_told_by_its_code(tmp_path: Path) -> None:
    event = json.dumps({"event": "exit", "code": 7, "signal": None})
    one = serving(f"read line; echo '{event}'; cat", tmp_path)
    with pytest.raises(WorkerFailed, match="the worker ended with code 7"):
        one.run(job(tmp_path), lambda _: None)
    one.stop()


def test_stopping_ends_a_job_and_a_server_that_does_not_end_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_GRACE_SECONDS", 0.05)
    event = '{\\"event\\": \\"started\\", \\"pid\\": $!}'
    one = serving(f'read line; sleep 60 & echo "{event}"; exec sleep 61', tmp_path)
    pids: list[int] = []

    def interrupt(event: dict[str, Any]) -> None:
        pids.append(event["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run(job(tmp_path), interrupt)
    assert is_there(pids[0]) and one.alive
    one.stop()
    deadline = time.monotonic() + 60
    while is_there(pids[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_there(pids[0]) and not one.alive


def test_a_process_that_keeps_a_model_and_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "CLOSING_SECONDS", 0.05)
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    _, jobs = os.pipe()
    done, _ = os.pipe()
    server._end(server._Child(process.pid, "model", jobs, done))
    assert not Path(f"/proc/{process.pid}").exists(), "and waited for"
    for closed in (jobs, done):
        with pytest.raises(OSError):
            os.fstat(closed)


def test_workers_that_are_kept_are_shared_by_blocks_within() -> None:
    with keep_workers():
        kept = kept_workers()
        with keep_workers():
            assert kept_workers() is kept is not None
        assert kept_workers() is kept
    assert kept_workers() is None


def test_a_kernel_without_counters_has_killed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert oom_kills() >= 0

    def closed(*_: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", closed)
    assert oom_kills() == 0


def stage_that(does: str, folder: Path, *, place: str = "worker") -> None:
    """The stage ``mine`` of the working directory."""
    target = folder / "plugins" / "stages" / "mine.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        "from dataclasses import dataclass\n"
        "from runner.pipeline.stages.base import Place, Stage\n"
        "@dataclass\n"
        "class Nothing:\n"
        "    pass\n"
        "class Mine(Stage[Nothing, Nothing]):\n"
        "    name, schema_version, request, result = 'mine', 1, Nothing, Nothing\n"
        f"    place, loads_model, asks_engine = Place.{place}, False, False\n"
        "    def run(self, request, context):\n"
        f"        {does}\n"
        "    def carry_out(self, run):\n"
        f"        {does}\n"
        "STAGE = Mine()\n"
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which a job enters too."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_interrupted_job_ends_as_a_shell_has_it(here: Path) -> None:
    stage_that("raise KeyboardInterrupt", here)
    reading, events = os.pipe()
    assert run_job(job(here), events, ModelCache()) == 130
    os.close(events)
    with os.fdopen(reading) as lines:
        assert [json.loads(line)["event"] for line in lines] == ["started"], "no error is told"


def test_a_fault_of_a_stage_fails_its_run_and_is_kept_with_it(here: Path) -> None:
    stage_that("raise ZeroDivisionError('of nothing')", here, place="control")
    result = run(["stages=[mine]", "model=tiny", "tracker=none", "store.root=store"])
    assert (result.status, result.reason) == (Status.failed, "ZeroDivisionError: of nothing")
    assert "ZeroDivisionError: of nothing" in result.record.log_tail[-1]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = ObservedSession(tmp_path / "store", tmp_path / "environments", live=False)
    yield made
    made.close()


NOWHERE = ReadyEnvironment("nowhere", "/bin/false", {})
"""An interpreter that ends at once: nothing can be made with it."""


def work(**determinants: Any) -> StageJob[Any]:
    return StageJob("limits", WorkerTask(HARDWARE, {}, NOWHERE, 1), determinants)


def kept(session: Session, content: str, *, sealed: bool) -> tuple[StageJob[Any], Address]:
    """What is in the store for a job, with other content than was written."""
    wanted = work(machine="mine")
    determinants = {"schema_version": HARDWARE.schema_version, "machine": "mine"}
    address = put(session.store, HARDWARE.name, determinants, sealed)
    assert address == wanted.address
    (session.store.directory(address) / RESULT_FILE).write_text(content)
    return wanted, address


@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_result_is_set_aside_and_made_again(
    sealed: bool, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, address = kept(session, "{", sealed=sealed)
    with pytest.raises(WorkerFailed, match="parent process ended with code 1"):
        session.obtain(wanted)
    said = capsys.readouterr().err
    assert f"warning: limits: {address} is damaged" in said and "will be recomputed" in said
    assert len([*(session.store.root / "damaged").iterdir()]) == 1
    assert not session.store.holds(address)


def test_a_damaged_result_that_cannot_be_moved_is_named(session: Session) -> None:
    wanted, address = kept(session, "{", sealed=True)
    (session.store.root / "damaged").write_text("")
    with pytest.raises(
        StageError, match="and cannot be set aside \\(file exists\\): delete"
    ) as told:
        session.obtain(wanted)
    assert str(told.value).endswith(str(session.store.directory(address)))


def test_what_lies_in_a_store_that_cannot_be_written_to_is_checked_and_reused(
    session: Session,
) -> None:
    wanted, address = kept(session, '{"result": {"a": 1}, "resources": {}}', sealed=False)
    (session.store.root / "locks").write_text("no folder")
    session.verify = Verify.always
    found = session.obtain(wanted)
    assert (found.reused, found.content, found.address) == (True, {"a": 1}, address)
    with pytest.raises(FileExistsError):
        session.obtain(work(machine="another"))


def test_an_environment_that_cannot_be_made_says_so(session: Session) -> None:
    wanted = Environment(name="mine", requirements=["nothing==1"], python_version="==1.0")
    with pytest.raises(StageError, match="environment mine cannot be created"):
        session.environment(wanted)


def test_comparing_is_shown_where_it_takes_long() -> None:
    display = Display(live=False)
    with Compared(display, "checkpoint") as compared:
        compared(1, 1_000_000)
        assert display._screen.run is None
        compared(300_000_000, 600_000_000)
        assert display._screen.run is not None
        (shown,) = display._screen.run.stages
        assert shown.title == "checkpoint: comparing with its digests"
        assert (shown.done, shown.total, shown.what) == (300, 600, "MB")
    assert display._screen.run is None
