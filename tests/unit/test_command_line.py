"""What ends a command line, and how: its exit code, and one line that says why."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.cli.app import execute
from runner.cli.flags import read_flags, shown_configuration, told_warnings
from runner.cli.invocation import Invocation
from runner.cli.main import main, version
from runner.cli.verbs import carry_out
from runner.errors import StageError, UsageError
from tests.unit.conftest import raising

pytestmark = pytest.mark.unit

RUN = ("model=tiny", "method=none", "stages=[eval]", "eval=quick", "tracker=none")
Ended = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command line changes the process's variables, streams and import path."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ended:
    """The exit code of a command line, and what it said on standard error."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["runner", *words])
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("that is wrong"), 2, "runner: that is wrong\n"),
        (KeyboardInterrupt(), 130, "runner: stopped\n"),
        (BrokenPipeError(), 1, ""),
        (KeyError("why"), 1, "runner: internal error: KeyError: 'why'; HYDRA_FULL_ERROR=1 shows"),
    ],
)
def test_whatever_ends_a_command_line_has_its_code(
    error: BaseException, code: int, said: str, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.cli.main.version", raising(error))
    # Where its reader is gone, standard output is led elsewhere.
    with (Path.cwd() / "printed").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        found, told = ended("--version")
    assert found == code
    assert told.startswith(said) and bool(told) is bool(said)


@pytest.mark.parametrize("place", ["main.version", "invocation.Invocation.run_job"])
def test_the_traceback_of_a_fault_is_shown_to_who_asks_for_it(
    place: str, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"runner.cli.{place}", raising(KeyError("why")))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(KeyError):
        ended(*(["--version"] if place == "main.version" else ["--config-name=config"]))


def test_what_runs_may_leave_with_a_code_of_its_own(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does rich's console, where nobody reads an answer to its end."""
    monkeypatch.setattr("runner.cli.invocation.Invocation.run_job", raising(SystemExit(1)))
    assert ended("model=tiny") == (1, "")


@pytest.mark.parametrize("words", [["--version"], ["--cfg", "job"]], ids=" ".join)
def test_a_reader_who_has_seen_enough_is_no_fault(
    words: list[str], ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = os.pipe()
    os.close(source)
    with os.fdopen(target, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert ended(*words) == (1, "")


def test_an_answer_that_fails_is_told(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--cfg", "job", "--package", "store")
    monkeypatch.setattr(Invocation, "answer", raising(StageError("a record is damaged")))
    assert ended(*words) == (1, "runner: a record is damaged\n")
    monkeypatch.setattr(Invocation, "answer", raising(KeyError("why")))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(KeyError):
        ended(*words)


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    monkeypatch.setattr("importlib.metadata.version", raising(PackageNotFoundError()))
    assert version() == "unknown (the package is not installed)"


def test_a_name_of_a_sweep_that_a_launcher_cannot_have_given_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUANT_RUNNER_SWEEP", "a/b")
    with pytest.raises(UsageError, match="QUANT_RUNNER_SWEEP=a/b has a /"):
        execute()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--cfg job --package -x", "expected one argument"),
        ("--cfg job --package a$b", "--package 'a$b' is not a package name such as eval.text"),
        ("--config-dir nowhere", "--config-dir nowhere is not a directory"),
        (f"--config-dir {'x' * 300}", "xxx is not a directory"),
        ("-sc install=csh", "-sc takes install=SHELL or uninstall=SHELL, for bash, fish or zsh"),
        ("--experimental-rerun x", "--experimental-rerun is not supported; repeat the command"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["runner", *line.split()])
    with pytest.raises(UsageError) as caught:
        read_flags()
    assert said in str(caught.value)


def test_what_hydra_shows_may_end_the_process() -> None:
    with pytest.raises(SystemExit), shown_configuration():
        raise SystemExit(3)


def test_a_warning_takes_one_line_without_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    with told_warnings():
        warnings.warn("this is\nold: see https://hydra.cc/old for more", stacklevel=1)
    assert capsys.readouterr().err == "  warning: this is old: see for more\n"


def test_a_verb_that_is_stopped_or_meets_a_path_that_is_none_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def code(verb: Callable[..., Any]) -> int:
        return carry_out(
            "env", ["list"], usage="", prepare=lambda *_: None, verbs={"list": verb},
            stopped="nothing is left",
        )  # fmt: skip

    assert code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "runner: stopped; nothing is left\n"
    assert code(lambda *_: Path("x" * 300).stat()) == 2
    assert capsys.readouterr().err.endswith("xxx: file name too long\n")
    with pytest.raises(OSError, match="of no file"):
        code(raising(OSError("of no file")))


def test_sweeps_to_report_are_for_a_report(ended: Ended) -> None:
    said = "runner: report.sweeps reads finished runs: use runner report SWEEP ...\n"
    assert ended(*RUN, "report.sweeps=[a]") == (2, said)
