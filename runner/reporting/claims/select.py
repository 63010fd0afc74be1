"""Selects the runs that a claim is about."""

from collections.abc import Iterator
from typing import Any

import yaml

from runner.config.renamed import present_axes
from runner.config.schema.bits import Bits
from runner.config.schema.group_size import GroupSize
from runner.store.records import RunRecord, Status
from runner.util.serialise import from_json

UNQUANTIZED = "unquantized"


def terms_of(selection: str) -> dict[str, str]:
    """``method=rtn group_size=g32`` as a mapping.

    Raises:
        ValueError: A term is not of the form key=value.
        UsageError: A field is named twice, by its old name and its new one.
    """
    terms = {}
    for term in selection.split():
        key, sign, value = term.partition("=")
        if not (key and sign):
            raise ValueError(f"{term} is not of the form key=value")
        terms[_place(key)] = value
    return present_axes(terms, f"claim on {selection}")


def matching(records: list[RunRecord], selection: str) -> list[RunRecord]:
    """Finished runs that are what every term of the selection says.

    Raises:
        ValueError: A term is not of the form key=value.
    """
    terms = terms_of(selection).items()
    return [
        record
        for record in records
        if record.status is Status.ok
        and all(
            _equal(value_of(record, key), value) or _chosen(record).get(key) == value
            for key, value in terms
        )
    ]


def pairs(
    records: list[RunRecord], left: str, right: str
) -> Iterator[tuple[RunRecord, RunRecord, str]]:
    """Runs of both sides that agree in what both were told, and that in words.

    With ``unquantized`` on the right the second of a pair is the first.

    Raises:
        ValueError: A term of a selection is not of the form key=value.
    """
    if right == UNQUANTIZED:
        named = set(terms_of(left))
        for run in matching(records, left):
            yield run, run, _words(run, _varied(records, _told(run) - named))
        return
    named = {*terms_of(left), *terms_of(right)}
    for one in matching(records, left):
        for other in matching(records, right):
            common = (_told(one) & _told(other)) - named
            if one.model == other.model and all(
                value_of(one, key) == value_of(other, key) for key in common
            ):
                yield one, other, _words(one, _varied(records, common))


def value_of(record: RunRecord, key: str) -> Any:
    """What a run's configuration has under a dotted key; an option's name for a group."""
    if key == "label":
        return record.label
    value: Any = record.config
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    if key == "bits":
        return from_json(Bits, value).label
    if key == "group_size":
        return from_json(GroupSize, value).label
    return value.get("name") if isinstance(value, dict) else value


def _told(record: RunRecord) -> set[str]:
    """Keys that the run's command line or sweep set."""
    keys = (override.lstrip("+~").partition("=")[0] for override in record.overrides)
    return {_place(key) for key in keys} - {"sweep", "force", "stages", "tracker"}


def _chosen(record: RunRecord) -> dict[str, str]:
    """What the command line or the sweep said, by place: an option may be named after its file."""
    parts = (override.lstrip("+~").partition("=") for override in record.overrides)
    return {_place(key): value for key, _, value in parts}


def _varied(records: list[RunRecord], keys: set[str]) -> set[str]:
    """Those that are not the same in the whole sweep."""
    return {key for key in keys if len({str(value_of(run, key)) for run in records}) > 1}


def _words(record: RunRecord, keys: set[str]) -> str:
    return " ".join(f"{key}={value_of(record, key)}" for key in sorted(keys))


def _place(key: str) -> str:
    """``eval.text`` of ``text@eval.text``."""
    return key.rpartition("@")[2]


def _equal(found: Any, stated: str) -> bool:
    return str(found) == stated or bool(found == yaml.safe_load(stated))
