"""A stage is declared once: discovery, order, reading what older versions wrote, no string keys."""

import ast
import pkgutil
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.root import StageName
from runner.errors import StageError, UsageError
from runner.pipeline.context import Expected
from runner.pipeline.stages import find_stage, in_order, jobs, stage_names
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.store.records import RunRecord
from runner.util.serialise import to_json
from tests.unit.conftest import Compose
from tests.unit.records import BASE, record, stage, summary, whole

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


def metrics(name: str, partial: dict[str, Any]) -> dict[str, float | None]:
    """What trackers get of a result."""
    one = find_stage(name)
    return one.metrics(one.read(whole(name, partial)))


def test_a_plan_tells_trackers_of_its_first_row_where_it_serves() -> None:
    def around(expected: float) -> dict[str, float]:
        return {"low": expected / 2, "expected": expected, "high": 2 * expected}

    first = {
        "verdict": "meets", "time_per_output_token_seconds": around(2.0),
        "time_to_first_token_seconds": around(3.0), "cost_per_million_tokens": around(0.5),
        "monthly_cost": 7.0, "devices_needed": 4,
    }  # fmt: skip
    assert metrics("plan", {"options": [first, first]}) == {
        "plan/options": 2,
        "plan/predicted_time_per_output_token_seconds": 2.0,
        "plan/predicted_time_to_first_token_seconds": 3.0,
        "plan/predicted_cost_per_million_tokens": 0.5,
        "plan/predicted_monthly_cost": 7.0,
        "plan/devices": 4,
    }
    assert metrics("plan", {"options": [{**first, "verdict": "too_slow"}]}) == {"plan/options": 1}
    assert metrics("plan", {}) == {"plan/options": 0}


def test_an_evaluation_by_bytes_tells_bits_and_the_floor_has_names_of_its_own() -> None:
    found = {"protocol": "lm_eval", "value": 8.0, "unit": "byte"}
    content = {"perplexity": {"protocol": "lm_eval", "value": 9.0, "unit": "word"}}
    content["further"] = [{"perplexity": found}]  # type: ignore[assignment]
    told = metrics("eval", content)
    assert told["eval/bits_per_byte/lm_eval"] == 3.0
    floor = {name.replace("eval/", "floor/", 1): value for name, value in told.items()}
    assert metrics("floor", content) == floor


def test_a_server_tells_every_level_by_its_load() -> None:
    level = {
        "concurrency": 4, "requests_per_second": 2.0, "attainment": 0.5,
        "time_to_first_token_seconds": summary(0.25),
    }  # fmt: skip
    paced = {"concurrency": None, "arrival_rate": 0.5, "failed": 3}
    told = metrics("serving", {"startup_seconds": 9.0, "levels": [level, paced]})
    assert told["serving/startup_seconds"] == 9.0
    assert told["serving/requests_per_second/concurrency_4"] == 2.0
    assert told["serving/attainment/concurrency_4"] == 0.5
    assert told["serving/time_to_first_token_seconds/concurrency_4"] == 0.25
    assert told["serving/failed/arrival_rate_0.5"] == 3
    assert len(told) == 3 + 2 * (6 + 3)


def test_everything_has_a_rough_cost(composed: Compose) -> None:
    config = composed()
    for name in [*stage_names(), *(module.name for module in pkgutil.iter_modules(jobs.__path__))]:
        cost = find_stage(name).cost(config, False)
        assert cost.models >= 1, name
        if cost.seconds is not None:
            assert 0 < cost.seconds < 3600, name
        else:
            assert cost.tokens >= 0 <= cost.decoded_tokens, name


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [
        (["tasks=capabilities", "tasks.limit=10", "tasks.names=[lists]"], 10 * 150),
        (["tasks=capabilities", "tasks.limit=10", "tasks.names=[lists,copying]"], 2 * 10 * 150),
        (
            [
                "tasks=capabilities",
                "tasks.limit=10",
                "tasks.names=[needle]",
                "tasks.own.needle.items.levels=[128,4096]",
            ],
            10 * 2112,
        ),
        (["tasks=capabilities", "tasks.names=[lists]", "tasks.limit=0.5"], 0.5 * 10 * 200 * 150),
        (["tasks.names=[arc_easy]", "tasks.limit=1"], 400),
        (["tasks.names=[arc_easy]"], 1000 * 400),
        (["tasks.names=[arc_easy]", "tasks.limit=5000"], 5000 * 400),
        (["tasks=capabilities", "tasks.names=[lists]", "tasks.limit=5000"], 10 * 200 * 150),
        (
            ["tasks=continuations", "tasks.own.continuations.items.count=5"],
            5 * 400,
        ),
    ],
)
def test_tasks_cost_what_their_items_do(
    composed: Compose, overrides: list[str], tokens: float
) -> None:
    assert find_stage("tasks").cost(composed(*overrides), False).tokens == tokens


def test_a_comparison_files_nothing_with_a_run(composed: Compose) -> None:
    expected = Expected(composed(), ["unquantized"], ["a"])
    assert find_stage("compare").expects(expected) == find_stage("report").expects(expected) == []
