"""A stage is declared once: discovery, order, reading what older versions wrote, no string keys."""

import ast
from pathlib import Path

import pytest

from runner.config.schema.root import StageName
from runner.errors import StageError, UsageError
from runner.pipeline.stages import find_stage, in_order, stage_names
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.store.records import RunRecord
from runner.util.serialise import to_json
from tests.unit.records import BASE, record, stage, whole

pytestmark = pytest.mark.unit

RUNNER = Path(__file__).parents[2] / "runner"
SERIALISERS = {"records.py", "shared.py", "stage_job.py", "run.py", "session.py"}
"""Files that handle a result as JSON because they write, share or hand it on."""


def test_names_in_the_rules_are_stages() -> None:
    assert {*StageName} <= {*stage_names()}
    with pytest.raises(UsageError, match="no stage called 'nonsense'"):
        find_stage("nonsense")


def test_stages_go_after_those_they_follow_whatever_the_order_asked_for() -> None:
    asked = ["serving", "bench", "eval", "quantize", "plan", "tasks", "sensitivity"]
    order = [one.name for one in in_order(asked)]
    assert order == ["plan", "sensitivity", "quantize", "eval", "tasks", "bench", "serving"]
    assert [one.name for one in in_order(["bench", "eval"])] == ["eval", "bench"]


@pytest.mark.parametrize("name", [*stage_names(), "floor", "overlap", "windows", "text"])
def test_a_declaration_is_whole(name: str) -> None:
    one = find_stage(name)
    assert one.name == name
    assert one.schema_version >= 1
    assert isinstance(one.result, type) and isinstance(one.request, type)


def test_a_result_is_read_as_it_was_written() -> None:
    found = BASE[0].read(EVAL)
    assert isinstance(found, EVAL.result)
    assert EVAL.read(to_json(found), EVAL.schema_version) == found


def test_another_schema_version_is_named_and_not_guessed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = whole("eval", {})
    with pytest.raises(StageError, match=r"schema version 99, and this version .* reads 4"):
        EVAL.read(content, 99)
    with pytest.raises(StageError, match=r"cannot be read as schema version 4 \(perplexity\)"):
        EVAL.read({}, 4)
    newer = stage("eval", "recipe", content)
    newer.schema_version = 99
    made: RunRecord = record(0, "a", [newer])
    assert made.result(EVAL) is None, "it counts as none, and is warned of"
    assert "schema version 99" in capsys.readouterr().err
    assert "schema version 99" in made.warnings[-1]


def test_nothing_reads_a_stages_result_by_a_string() -> None:
    """``….result["key"]`` and ``….result.get("key")``; mypy sees attributes."""
    found = []
    for path in RUNNER.rglob("*.py"):
        if path.name in SERIALISERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            target = None
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                target = node.value
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("get", "pop")
            ):
                target = node.func.value
            if isinstance(target, ast.Attribute) and target.attr == "result":
                found.append(f"{path.relative_to(RUNNER)}:{node.lineno}")
    assert not found
