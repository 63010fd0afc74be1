"""A run keeps its number in a sweep when the sweep's combinations change."""

import copy
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from runner import api
from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.pipeline.numbering import run_numbers
from runner.pipeline.record import run_name, used_recipe_label
from runner.reporting.compare.find import find_side
from runner.store.records import write_record
from runner.util.serialise import to_json
from tests.unit.records import record

A, B, C = (
    ["method=rtn", "bits=w4a16"],
    ["method=gptq", "bits=w4a16"],
    ["method=awq", "bits=w4a16"],
)
FIXED = ["model=tiny", "group_size=g32"]


@functools.cache
def chosen(groups: tuple[str, ...]) -> Config:
    return api.compose_config([*FIXED, *groups])


def composed(job: Sequence[str]) -> Config:
    """Composing takes a tenth of a second; a field is set in what was composed."""
    config = copy.deepcopy(chosen(tuple(one for one in job if "." not in one)))
    for override in job:
        path, _, value = override.partition("=")
        section, _, field = path.partition(".")
        if field:
            setattr(getattr(config, section), field, yaml.safe_load(value))
    return config


def filed(sweep: Path, number: int, job: Sequence[str]) -> None:
    config = composed(job)
    label = used_recipe_label(config)
    folder = sweep / run_name(number, label)
    folder.mkdir(parents=True)
    content = {
        "overrides": [*FIXED, *job], "config": to_json(config), "label": label,
        "model": config.model.name, "engine": config.engine.name,
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(content))


def numbers(sweep: Path, *jobs: Sequence[str]) -> list[int]:
    return run_numbers(
        sweep, [[*FIXED, *job] for job in jobs], lambda job: composed(job[len(FIXED) :])
    )


def test_a_new_sweep_is_numbered_in_order(tmp_path: Path) -> None:
    assert numbers(tmp_path / "none", A, B, C) == [0, 1, 2]


def test_a_choice_before_it_shifts_no_run(tmp_path: Path) -> None:
    filed(tmp_path, 0, A)
    filed(tmp_path, 1, B)
    assert numbers(tmp_path, A, B) == [0, 1]
    assert numbers(tmp_path, C, A, B) == [2, 0, 1]
    assert numbers(tmp_path, B) == [1]
    # Of a sweep that was stopped the rest keep their places.
    assert numbers(tmp_path, A, B, C) == [0, 1, 2]


def test_runs_of_one_label_are_told_apart(tmp_path: Path) -> None:
    """Their folders have the same name but for the number."""
    seeds = [[*B, f"calibration.seed={seed}"] for seed in (3, 4, 5)]
    filed(tmp_path, 0, seeds[0])
    filed(tmp_path, 1, seeds[1])
    assert numbers(tmp_path, seeds[2], seeds[0], seeds[1]) == [2, 0, 1]
    assert numbers(tmp_path, seeds[1], seeds[2]) == [1, 2]


def test_what_is_not_varied_may_change(tmp_path: Path) -> None:
    """A run that is redone otherwise replaces its record, as a failed one must be able to."""
    filed(tmp_path, 0, A)
    filed(tmp_path, 1, B)
    again = [[*job, "eval.windows=3", "store.verify=always"] for job in (B, A)]
    assert numbers(tmp_path, *again) == [1, 0]
    # Once it is varied it tells runs apart; the record is of the default.
    varied = [[*A, "eval.windows=3"], [*A, f"eval.windows={composed(A).eval.windows}"]]
    assert numbers(tmp_path, *varied) == [2, 0]


def test_a_default_is_the_choice_that_it_stands_for(tmp_path: Path) -> None:
    filed(tmp_path, 0, ["method=rtn", "bits=w4a16"])
    filed(tmp_path, 1, ["method=gptq", "bits=w4a16"])
    assert numbers(tmp_path, ["bits=w8a16"], ["bits=w4a16"]) == [2, 1]


def test_another_recipe_takes_no_record(tmp_path: Path) -> None:
    filed(tmp_path, 0, [*A, "method.sym=true"])
    assert numbers(tmp_path, [*A, "method.sym=false"]) == [1]


def test_the_number_of_a_damaged_record_is_taken(tmp_path: Path) -> None:
    filed(tmp_path, 0, A)
    (tmp_path / run_name(0, "rtn-w4a16-g32") / "record.json").write_text("{")
    assert numbers(tmp_path, A) == [1]


def test_a_run_is_found_by_its_number(tmp_path: Path) -> None:
    for number in (3, 30):
        write_record(tmp_path, record(number, "rtn-w4a16-g64", [], sweep="s"))
    assert find_side(tmp_path, "s/3").name == "s/003-rtn-w4a16-g64"
    assert find_side(tmp_path, "s/30").name == "s/030-rtn-w4a16-g64"
    with pytest.raises(UsageError, match="no run of sweep s matches 4"):
        find_side(tmp_path, "s/4")
