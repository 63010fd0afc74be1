"""Jobs of a command line: what of them is looked at, kept, told and answered."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf.errors import ConfigKeyError

from runner.api import compose_config
from runner.cli.closing import collect_and_report, has_records
from runner.cli.invocation import Invocation
from runner.cli.refusals import Refusal, tell_stop
from runner.config.schema.root import Config, StageName
from runner.config.schema.tracker import Tracker
from runner.errors import StageError, UsageError
from runner.multirun.grid import GridSweeper
from runner.multirun.run_location import RunLocation
from runner.pipeline.record import RunIdentity, new_record
from runner.planning.hardware.detect import detect
from runner.store.records import Status, write_record
from tests.unit.conftest import raising

pytestmark = pytest.mark.unit

RUN = ("model=tiny", "method=none", "stages=[eval]", "eval=quick", "tracker=none")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StageError("a stage failed"), 1, "a stage failed"),
        (ConfigKeyError("Key 'nope' is not in struct"), 2, "nope"),
        (IsADirectoryError(21, "Is a directory", "/mine"), 2, "/mine: is a directory"),
        (OSError(28, "No space left on device"), 1, "no room to write in the store /"),
        (OSError(5, "Input/output error"), 1, "internal error: OSError"),
    ],
)
def test_what_is_wrong_with_a_run_is_told_once_or_handed_to_who_started_it(
    error: Exception, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    invocation = Invocation("s")
    invocation.root = tmp_path
    assert invocation.tell(error) is invocation.tell(error) is None
    assert capsys.readouterr().err.count("runner: ") == 1
    ((message, found),) = invocation.refusals.codes.items()
    assert said in message and found == code
    elsewhere = Invocation("s")
    elsewhere.root, elsewhere.refusals.process = tmp_path, 0
    assert elsewhere.tell(error) == Refusal(message, code)
    assert capsys.readouterr().err == ""


def test_a_fault_once_jobs_have_begun_is_no_wrong_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tell_stop(IsADirectoryError(21, "Is a directory", "/mine"), None, started=True) == 1
    assert "internal error: IsADirectoryError" in capsys.readouterr().err


def test_refusals_of_other_processes_are_told_and_without_records_there_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = RunLocation(tmp_path, "s", Tracker(), False)
    monkeypatch.setattr(GridSweeper, "returned", [Refusal("no such thing", 2), None, place])
    invocation = Invocation("s")
    assert invocation.answer() == 0
    assert invocation.refusals.codes == {"no such thing": 2}
    assert capsys.readouterr() == ("", "runner: no such thing\n")
    assert GridSweeper.returned == [] and invocation.place == place
    (tmp_path / "s" / "000-none").mkdir(parents=True)
    assert not has_records(place)
    (tmp_path / "s" / "000-none" / "record.json").touch()
    assert has_records(place)


@pytest.fixture(scope="module")
def composed_once() -> Config:
    return compose_config([*RUN, "store.root=/nowhere"])


@pytest.fixture
def config(composed_once: Config, store: Path) -> Config:
    return replace(composed_once, store=replace(composed_once.store, root=str(store)))


def test_a_run_of_a_sweep_that_needs_no_job_is_looked_at_told_or_kept(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = [*RUN, "hydra.job.chdir=false"]
    monkeypatch.setattr(GridSweeper, "folder", tmp_path / "multirun")
    monkeypatch.setattr(GridSweeper, "jobs", [job])
    invocation = Invocation("s")
    machine = invocation.machine = detect()

    for stages in ([StageName.report], [StageName.eval, StageName.compare]):
        assert invocation.spare(replace(config, stages=stages, dry_run=True), 0, job) is None
    assert invocation.spare(config, 0, job) is None, "there is work to do"

    looked = invocation.spare(replace(config, dry_run=True), 0, job)
    assert looked is not None and looked.return_value is None
    assert "000-as-is  tiny on hf: would run" in capsys.readouterr().out

    record = new_record(config, machine, RunIdentity("s", 0, list(RUN)))
    record.status, record.seconds = Status.ok, 1.0
    write_record(Path(config.store.root) / "runs", record)
    stopping = replace(config, launch=replace(config.launch, on_failure="stop"))
    assert invocation.spare(stopping, 0, job) is None, "an earlier run may have failed"
    kept = invocation.spare(config, 0, job)
    assert kept is not None and kept.return_value == invocation.place
    assert "kept as it is" in capsys.readouterr().err
    assert invocation.place is not None and invocation.place.sweep == "s"
    assert invocation.answer() == 0
    assert f"records: {config.store.root}/runs/s\n" in capsys.readouterr().out
    invocation.close()


def test_a_run_that_cannot_be_looked_at_is_told_once_and_the_rest_goes_on(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = replace(config, dry_run=True)
    invocation = Invocation("s")
    monkeypatch.setattr("runner.multirun.dry_run.show.judge", raising(StageError("no disk")))
    for number in range(2):
        told = invocation.spare(config, number, list(RUN))
        assert told is not None and told.return_value is None
    assert capsys.readouterr().err == "runner: no disk\n"
    assert invocation.refusals.codes == {"no disk": 1}


def test_one_run_that_would_be_refused_is_refused_by_its_dry_run(config: Config) -> None:
    invocation = Invocation("s")
    invocation.multirun = False
    long = replace(config, eval=replace(config.eval, context_length=10_000))
    with pytest.raises(UsageError, match="exceeds the model's context"):
        invocation._look(long, RunIdentity("s", 0, list(RUN)))


def test_a_run_whose_lines_nobody_reads_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "printed").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit, match="1"):
            Invocation("s").tell(BrokenPipeError(32, "Broken pipe"))
        print("more")
    assert (tmp_path / "printed").read_text() == "", "nothing more is written there"
    elsewhere = Invocation("s")
    elsewhere.refusals.process = 0
    refusal = elsewhere.tell(BrokenPipeError(32, "Broken pipe"))
    assert refusal is not None and refusal.code == 1


def test_one_sweep_and_several_are_not_reported_at_once(config: Config, tmp_path: Path) -> None:
    both = replace(config, report=replace(config.report, sweeps=["a"]), sweep="b")
    with pytest.raises(UsageError, match=r"use either report\.sweeps for several sweeps or sweep"):
        collect_and_report(tmp_path, both, None)
