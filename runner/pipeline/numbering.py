"""Numbers of a sweep's runs: a run keeps the one that its combination has in the sweep's records.

A run's place in the request is no identity: another choice before it shifts it, and its folder
would then hold another combination's record. So a request that is repeated with other combinations
finds those that it has in common under their numbers, and the others get numbers that none has.
"""

import itertools
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.root import Config
from runner.pipeline.record import used_recipe_label
from runner.util.redact import redact
from runner.util.serialise import to_json

_DECIDES_NO_COMBINATION = (
    "sweep", "stages", "force", "dry_run", "claims", "launch", "tracker", "store", "compare",
    "gate", "report", "release",
)  # fmt: skip
Overrides = Sequence[str]


@dataclass(frozen=True)
class _Known:
    """A run that the sweep has a record of."""

    number: int
    given: dict[str, str]
    label: tuple[str, ...]
    """Of its recipe, its model and its engine."""
    config: dict[str, Any]


def run_numbers(
    sweep: Path, jobs: Sequence[Overrides], config_of: Callable[[Overrides], Config | None]
) -> list[int]:
    """The number of each job's run.

    Args:
        sweep: The sweep's folder of records, which need not be there.
        jobs: Overrides of each, as they were typed, in their order.
        config_of: Gives a job's configuration, or ``None`` where the job's own process alone can
            tell it; asked only where there are records.
    """
    known = _known(sweep)
    if not known:
        return [*range(len(jobs))]
    configs = [config_of(job) for job in jobs]
    given = [_given(redact([*job])) for job in jobs]
    labels = [None if one is None else _label(one) for one in configs]
    numbers: dict[int, int] = {}
    taken: set[int] = set()

    def match(of_jobs: dict[int, Hashable], of_known: Sequence[Hashable]) -> None:
        candidates: dict[Hashable, list[int]] = {}
        for one, identity in zip(known, of_known, strict=True):
            if one.number not in taken:
                candidates.setdefault(identity, []).append(one.number)
        for place, identity in of_jobs.items():
            if place not in numbers and (found := candidates.get(identity)):
                numbers[place] = place if place in found else min(found)
                found.remove(numbers[place])
                taken.add(numbers[place])

    said = [frozenset(own.items()) for own in given]
    match(
        {place: (said[place], label) for place, label in enumerate(labels) if label is not None},
        [(frozenset(one.given.items()), one.label) for one in known],
    )
    match(
        {place: said[place] for place, label in enumerate(labels) if label is None},
        [frozenset(one.given.items()) for one in known],
    )
    # What else was set may have changed since: what the sweep is about has not.
    said_by_all = [*given, *(one.given for one in known)]
    axes = {axis: all(axis in own for own in said_by_all) for axis in sorted(_axes(given)
            | _axes([one.given for one in known]))}  # fmt: skip
    wanted: dict[int, Hashable] = {}
    for place, config in enumerate(configs):
        if place not in numbers and config is not None:
            wanted[place] = labels[place], _choices(axes, given[place], redact(to_json(config)))
    match(wanted, [(one.label, _choices(axes, one.given, one.config)) for one in known])
    return _filled([numbers.get(place) for place in range(len(jobs))], known)


def _filled(numbers: list[int | None], known: Sequence[_Known]) -> list[int]:
    """Numbers for the others: their places where no record has them, else the smallest free."""
    used = {one.number for one in known}
    for place, number in enumerate(numbers):
        if number is None and place not in used:
            numbers[place] = place
    used = used.union(number for number in numbers if number is not None)
    free = (number for number in itertools.count() if number not in used)
    return [next(free) if number is None else number for number in numbers]


def _known(sweep: Path) -> list[_Known]:
    from pydantic_core import from_json

    from runner.config.renamed import present_config, present_overrides

    found = []
    for path in sorted(sweep.glob("*/record.json")):
        number = path.parent.name.partition("-")[0]
        try:
            record = from_json(path.read_bytes())
            config = record["config"]
            present_config(config)
            given = _given(present_overrides(record["overrides"], warn=False))
            label = (record["label"], record["model"], record["engine"])
            found.append(_Known(int(number), given, label, config))
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            # No record that can be read; its number is taken all the same.
            if number.isdecimal():
                found.append(_Known(int(number), {}, (), {}))
    return found


def _label(config: Config) -> tuple[str, ...]:
    return used_recipe_label(config), config.model.name, config.engine.name


def _given(overrides: Sequence[str]) -> dict[str, str]:
    """Values by key, of the overrides that may tell combinations apart."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    return {
        key: value.strip("'\"")
        for key, _, value in pairs
        if key.split(".")[0] not in _DECIDES_NO_COMBINATION and not key.startswith("hydra")
    }


def _axes(jobs: Sequence[dict[str, str]]) -> set[str]:
    """Keys that not all jobs say the same of."""
    keys = {key for job in jobs for key in job}
    return {key for key in keys if len({job.get(key) for job in jobs}) > 1}


def _choices(
    axes: dict[str, bool], given: dict[str, str], config: dict[str, Any]
) -> tuple[str, ...]:
    """What a run has of each axis: as it was given, or what its configuration came to.

    Args:
        axes: Each with whether all runs were given it.
        given: To this one.
        config: Its own, resolved.
    """
    return tuple(
        given[axis].lower() if is_given else _resolved(axis, config)
        for axis, is_given in axes.items()
    )


def _resolved(axis: str, config: dict[str, Any]) -> str:
    value: Any = config
    for name in axis.rpartition("@")[2].split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return json.dumps(value, sort_keys=True)
