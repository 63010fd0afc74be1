"""Subcommands set the stages, are described, and are completed by the shell."""

import os
import shlex
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest

from runner.cli.completion import complete_subcommand
from runner.cli.help import help_text
from runner.cli.main import main
from runner.cli.subcommands import SUBCOMMANDS, read_subcommand
from runner.config.schema.plan import Plan
from runner.errors import UsageError

pytestmark = pytest.mark.unit

STAGES = [name for name, one in SUBCOMMANDS.items() if one.section is not None]


@pytest.mark.parametrize(
    ("line", "overrides"),
    [
        ("plan model=tiny", "stages=[plan] model=tiny"),
        ("plan", "stages=[plan]"),
        ("report", "stages=[report]"),
        ("report mine store.root=here", "stages=[report] sweep='mine' store.root=here"),
        ("report a b/3", "stages=[report] report.sweeps=['a','b/3']"),
        ("compare a b", "stages=[compare] compare.a='a' compare.b='b'"),
        ("gate a/1 gate.max_kl=1", "stages=[gate] gate.candidate='a/1' gate.max_kl=1"),
        ("gate", "stages=[gate]"),
        ("compare compare.a=x compare.b=y", "stages=[compare] compare.a=x compare.b=y"),
        ("plan ~hydra.x", "stages=[plan] ~hydra.x"),
        ("stages=[plan] model=tiny", "stages=[plan] model=tiny"),
        ("store list", "store list"),
        ("", ""),
    ],
)
def test_a_subcommand_sets_the_stages(line: str, overrides: str) -> None:
    assert " ".join(read_subcommand(line.split())) == overrides


@pytest.mark.parametrize(
    "line", ["plan tiny", "compare a", "compare a b c", "gate a b", "plan stages=[eval]"]
)
def test_what_a_subcommand_does_not_take_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        read_subcommand(line.split())


def output_of(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(sys, "argv", ["runner", *shlex.split(line)])
    main()
    return capsys.readouterr().out


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_described(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = output_of(f"{name} --help", monkeypatch, capsys)
    assert text.startswith(f"Usage: runner {name}")
    assert max(map(len, text.splitlines())) <= 80
    if name == "plan":
        for field in fields(Plan):
            assert f"  plan.{field.name}=" in text


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_is_in_the_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SUBCOMMANDS[name].about in help_text()
    text = output_of(f"{name} -h", monkeypatch, capsys)
    for verb in SUBCOMMANDS[name].verbs:
        assert f"runner {name} {verb}" in text


def test_the_version_is_the_packages_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = output_of("--version", monkeypatch, capsys)
    assert shown == f"quant-runner {version('quant-runner')}\n"


def test_help_is_of_everything_or_of_one_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output_of("model=tiny --help", monkeypatch, capsys) == help_text()
    with pytest.raises(SystemExit, match="2"):
        output_of("--help model bits", monkeypatch, capsys)
    assert "--help takes one group: runner --help model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected", "absent"),
    [
        ("runner pl", ["plan", "plan."], ["store"]),
        ("runner plan har", ["hardware="], ["plan"]),
        ("runner plan plan.tokens", ["plan.tokens_per_day="], []),
        ("runner store ", ["list", "show", "verify", "prune"], ["model="]),
        ("runner env create leg", ["legacy"], ["default"]),
    ],
)
def test_bash_completes_it(
    line: str, expected: list[str], absent: list[str], tmp_path: Path
) -> None:
    """By Hydra's own script, in a real shell."""
    program = tmp_path / "runner"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m runner "$@"\n')
    program.chmod(0o755)
    script = f"""
        PATH={shlex.quote(str(tmp_path))}:$PATH
        eval "$(runner -sc install=bash)"
        COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}
        words=($COMP_LINE); COMP_CWORD=$(( ${{#words[@]}} - 1 ))
        [ "${{COMP_LINE: -1}}" = " " ] && COMP_CWORD=$(( COMP_CWORD + 1 ))
        hydra_bash_completion; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    completions = done.stdout.split()
    assert set(expected) <= set(completions), done.stderr
    assert not set(absent) & set(completions)


def test_after_an_override_hydra_completes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line := "runner model=tiny eval")
    assert not complete_subcommand()
    assert (os.environ["COMP_LINE"], capsys.readouterr().out) == (line, "")
