"""Records share what they have in common, and nothing else."""

import gc
import json
from pathlib import Path

import pytest

from runner.errors import StageError
from runner.store.records import read_records, write_record
from runner.store.shared import Shared, without_collection
from tests.unit.records import BASE, recipe, record

pytestmark = pytest.mark.unit


def test_equal_sections_are_one_object_and_records_are_what_they_were(tmp_path: Path) -> None:
    several = [record(0, "none-bf16", BASE), recipe(1, "gptq-w4a16-g64", 21.0, 60.0, 9_000_000)]
    for one in several:
        write_record(tmp_path, one)
    first, second = read_records(tmp_path, several[0].sweep)
    assert [first, second] == several
    sections = [name for name, value in first.config.items() if isinstance(value, dict)]
    equal = [name for name in sections if first.config[name] == second.config[name]]
    assert equal
    assert all(first.config[name] is second.config[name] for name in equal)


def test_one_and_true_and_a_float_are_not_the_same() -> None:
    shared = Shared()
    contents = [{"config": {"a": {"x": value}}} for value in (1, True, 1.0)]
    found = [shared.record(content)["config"]["a"]["x"] for content in contents]
    assert [json.dumps(value) for value in found] == ["1", "true", "1.0"]


def test_what_is_no_record_is_told_and_not_shared(tmp_path: Path) -> None:
    path = tmp_path / "s" / "000-x" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    with pytest.raises(StageError, match="is not a record that this version can read"):
        read_records(tmp_path, "s")


def test_the_collector_is_as_it_was_afterwards() -> None:
    assert gc.isenabled()
    with without_collection():
        assert not gc.isenabled()
        with without_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
