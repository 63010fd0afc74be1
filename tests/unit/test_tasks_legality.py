"""What is wrong with tasks is said before any work, in one line that names the fix."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import quoted
from runner.config.schema.root import Config, StageName
from runner.engines import find_engine
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import Machine
from runner.validation.check import check
from runner.validation.verdict import Severity
from tests.unit.judging import illegal_ones, judge_changed

pytestmark = pytest.mark.unit

Compose = Callable[..., Config]


FUNCTIONS = ("tasks=packaged", "+task@tasks.own.functions=functions", "tasks.names=[functions]")


@pytest.fixture
def complaints(composed: Compose, cpu: Machine) -> Callable[..., list[str]]:
    """Illegal verdicts on a command line, on a machine where the harness knows two tasks."""

    def found(*overrides: str) -> list[str]:
        config = composed(*overrides)
        facts = gather_facts(config, cpu, list(overrides))
        facts = replace(facts, known_tasks=frozenset({"hellaswag", "mmlu"}))
        return [str(v) for v in check(config, facts) if v.severity is Severity.illegal]

    return found


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("tasks=packaged",),
        ("tasks.names=[hellaswag,mmlu]",),
        ("tasks=packaged", "tasks.names=[facts,mmlu]"),
        ("tasks=packaged", "engine=vllm", "method=none"),
        ("tasks=packaged", "engine=llama_cpp", "method=gguf"),
        ("tasks=packaged", "tasks.limit=0.5", "tasks.num_fewshot=3"),
        ("stages=[eval]",),
        (*FUNCTIONS, "tasks.run_code=true"),
        ("tasks.names=[mmlu]", "tasks.run_code=true"),
    ],
)
def test_what_can_be_asked(
    overrides: tuple[str, ...], complaints: Callable[..., list[str]]
) -> None:
    assert complaints(*overrides) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["tasks.names=[helaswag]"], "there is no task helaswag; did you mean hellaswag?"),
        (["tasks=packaged", "tasks.names=[fact]"], "did you mean facts?"),
        (["tasks=packaged", "stages=[eval]"], "which stages leaves out; try adding tasks"),
        (["stages=[eval,tasks]"], "tasks.names is empty; try tasks=packaged"),
        (FUNCTIONS, "on this machine; try tasks.run_code=true, or tasks.names without functions"),
        (
            [
                "tasks=continuations",
                "engine=llama_cpp",
                "method=gguf",
                "tasks.own.continuations.harness.generation_kwargs.do_sample=true",
            ],
            "continuations draws its answers (do_sample)",
        ),
        (["tasks=packaged", "tasks.limit=2.5"], "neither a number of items nor a share"),
        (["tasks=packaged", "+tasks.fewshot.mmlu=5"], "mmlu is not among tasks.names"),
        (["tasks=packaged", "tasks.include=[/none]"], "there is no folder /none"),
        (
            ["tasks=local", "tasks.own.local.items.path=/none"],
            "tasks.own.local.items.path: there is no file /none",
        ),
    ],
)
def test_what_cannot_be_asked(
    overrides: list[str], said: str, complaints: Callable[..., list[str]]
) -> None:
    (complaint,) = complaints(*overrides)
    assert said in complaint


@pytest.mark.parametrize(
    ("limit", "nearest"),
    [(None, None), (0.25, None), (1.0, None), (2.0, None), (1.5, "1"), (100.25, "100")],
)
def test_a_limit_is_a_share_below_one_or_a_whole_number(
    limit: float | None, nearest: str | None, composed: Compose, cpu: Machine
) -> None:
    found = illegal_ones(judge_changed(composed, cpu, "tasks=packaged", {"tasks.limit": limit}))
    assert [one.nearest for one in found] == ([f"tasks.limit={nearest}"] if nearest else [])
    assert all(one.reason.startswith(f"tasks.limit={limit:g} is neither") for one in found)


def test_names_are_looked_up_where_they_are_known(composed: Compose, cpu: Machine) -> None:
    known = frozenset({"hellaswag", "mmlu"})

    def said(names: list[str], **changes: Any) -> list[str]:
        facts = changes.pop("facts", {"known_tasks": known})
        changes = {"tasks.names": names, **{f"tasks.{key}": one for key, one in changes.items()}}
        found = judge_changed(composed, cpu, "tasks=packaged", changes, **facts)
        return [str(one) for one in illegal_ones(found)]

    assert said(["facts", "mmlu"]) == []
    (wrong,) = said(["facts", "nmlu", "hellaswag"])
    assert "there is no task nmlu; did you mean mmlu?" in wrong
    assert said(["nmlu"], facts={"known_tasks": None}) == [], "nobody has looked"
    assert said(["facts"], fewshot={"facts": 2}) == []
    (fewshot,) = said(["facts"], fewshot={"facts": 2, "mmlu": 5})
    assert fewshot == ("tasks.fewshot.mmlu: mmlu is not among tasks.names; try ~tasks.fewshot.mmlu")


def test_tasks_without_their_stage_and_the_stage_without_tasks(
    composed: Compose, cpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(base: str, names: list[str], stages: list[StageName], chosen: set[str]) -> list[str]:
        changes = {"tasks.names": names, "stages": stages}
        found = judge_changed(composed, cpu, base, changes, chosen=frozenset(chosen))
        return [str(one) for one in illegal_ones(found)]

    both = [StageName.eval, StageName.tasks]
    assert said("tasks=packaged", ["facts"], [StageName.eval], {"stages"}) == [
        "tasks=packaged needs stage tasks, which stages leaves out; try adding tasks to stages"
    ]
    (empty,) = said("tasks=packaged", [], both, {"stages"})
    assert empty.startswith("stages has tasks, but tasks.names is empty; try tasks=packaged")
    assert said("tasks=packaged", [], both, set()) == [], "by default"
    unable, engine = "tasks=packaged engine=llama_cpp method=gguf", find_engine("llama_cpp")
    deaf = replace(engine.traits, harness_model=None)
    monkeypatch.setattr(type(engine), "traits", deaf)
    assert said(unable, [], both, set()) == [], "nothing is asked of an engine that cannot"
    (refused,) = said(unable, ["facts"], both, set())
    assert refused.endswith("does not support engine llama_cpp; try engine=hf or engine=vllm")
    assert said("tasks=packaged", [], [StageName.eval], {"stages"}) == []


def test_files_of_tasks_must_have_content_and_be_files(
    complaints: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "mine").mkdir()
    os.mkfifo(tmp_path / "mine" / "pipe.yaml")
    folder, file = complaints(
        "tasks=local",
        f"tasks.own.local.items.path={quoted(tmp_path / 'empty.jsonl')}",
        f"tasks.include=[{quoted(tmp_path / 'mine')}]",
    )
    assert f"tasks.include: {tmp_path}/mine/pipe.yaml is a named pipe" in folder
    assert f"tasks.own.local.items.path: {tmp_path}/empty.jsonl is empty" in file


def test_names_are_read_from_an_environment_that_has_the_harness(
    composed: Compose, cpu: Machine, tmp_path: Path
) -> None:
    """From its files, in whichever Python it lies, and from the user's own folder."""
    tasks = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "lm_eval" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "one.yaml").write_text("task: one\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "two.yaml").write_text("task: two\n")
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho '{}'\n")
    python.chmod(0o755)
    config = composed(
        "tasks.names=[one]",
        f"tasks.include=[{quoted(tmp_path / 'mine')}]",
        f"environment.lm_eval.python={quoted(python)}",
    )
    assert gather_facts(config, cpu, []).known_tasks == {"one", "two"}
    assert gather_facts(composed("tasks=packaged"), cpu, []).known_tasks is None
