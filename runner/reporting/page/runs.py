"""Every run in full for the page; what runs share is written once."""

import json
from dataclasses import dataclass, field
from typing import Any

from runner.reporting.flatten import flatten
from runner.store.records import RunRecord

_LOG_LINES = 40


@dataclass
class _Interned:
    """Values by number, equal ones once."""

    values: list[Any] = field(default_factory=list)
    _numbers: dict[Any, int] = field(default_factory=dict)

    def number(self, value: Any) -> int:
        # Most are short strings and numbers; of these 1, 1.0 and True are equal, and not the same.
        plain = isinstance(value, str | int | float | None)
        key = (type(value), value) if plain else json.dumps(value, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


def runs_content(records: list[RunRecord]) -> dict[str, Any]:
    """All runs as ``{"values": [...], "keys": [...], "runs": [...]}``.

    A run's configuration is a list of numbers into ``values``, in the order of ``keys``; the
    same numbers stand for its stages, versions, host, warnings, reason and log.
    """
    interned = _Interned([None], {(type(None), None): 0})
    configs = _numbered([record.config for record in records], interned)
    keys = list(dict.fromkeys(key for config in configs for key in config))
    runs = []
    for record, config in zip(records, configs, strict=True):
        stages: list[dict[str, Any]] = [
            {
                "stage": entry.stage,
                "subject": entry.subject,
                "key": entry.key,
                "reused": entry.reused,
                "seconds": entry.seconds,
                "environment": entry.environment,
                "versions": interned.number(entry.versions),
                "resources": _small(vars(entry.resources)),
            }
            for entry in record.stages
        ]
        runs.append(
            {
                "run": record.run,
                "model": record.model,
                "engine": record.engine,
                "status": record.status.value,
                "reason": interned.number(record.reason),
                "started": record.started,
                "seconds": record.seconds,
                "overrides": record.overrides,
                "config": [config.get(key, 0) for key in keys],
                "versions": interned.number(record.versions),
                "host": interned.number(flatten(record.host)),
                "warnings": interned.number(record.warnings),
                "log": interned.number(record.log_tail[-_LOG_LINES:]),
                "stages": [interned.number(entry) for entry in stages],
            }
        )
    return {"keys": keys, "values": interned.values, "runs": runs}


def _numbered(configs: list[dict[str, Any]], interned: _Interned) -> list[dict[str, int]]:
    """Each configuration's fields, and the numbers of their values."""
    # Records share sections that are equal: those are looked through once.
    known: dict[tuple[str, int], dict[str, int]] = {}
    numbered = []
    for config in configs:
        numbers: dict[str, int] = {}
        for name, section in config.items():
            place = (name, id(section))
            if place not in known:
                fields = flatten({name: section})
                known[place] = {key: interned.number(value) for key, value in fields.items()}
            numbers |= known[place]
        numbered.append(numbers)
    return numbered


def _small(resources: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resources.items() if isinstance(value, int | float)}
