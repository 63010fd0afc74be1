"""A command line's verdicts, for the tests of legality."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from runner.config.schema.root import Config
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import Machine
from runner.validation.check import check
from runner.validation.verdict import Severity, Verdict

Compose = Callable[..., Config]
Judge = Callable[..., list[Verdict]]
"""As ``judge_changed`` with the machine last, a small server by default."""


def judge(composed: Compose, machine: Machine, overrides: list[str]) -> list[Verdict]:
    config = composed(*overrides)
    return check(config, gather_facts(config, machine, overrides))


def illegal_ones(verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.severity is Severity.illegal]


def applied(overrides: list[str], nearest: str) -> list[str]:
    """The command line with the first suggestion taken; an option replaces its group's fields."""
    changes = re.split(r",? or |, ", nearest)[0].split()
    keys = {change.partition("=")[0] for change in changes}
    kept = [o for o in overrides if not keys & {o.partition("=")[0], o.partition(".")[0]}]
    return kept + changes


Changes = dict[str, Any]
_COMPOSED: dict[str, Config] = {}


def judge_changed(
    composed: Compose, machine: Machine, base: str, changes: Changes, **facts: Any
) -> list[Verdict]:
    """Verdicts on a command line, some fields of its configuration and of the facts changed.

    Composing takes a hundred times as long as judging, so each command line is composed once.
    """
    if base not in _COMPOSED:
        _COMPOSED[base] = composed(*base.split())
    config = copy.deepcopy(_COMPOSED[base])
    for key, value in changes.items():
        *way, field = key.split(".")
        section: Any = config
        for name in way:
            section = getattr(section, name)
        assert hasattr(section, field), key
        setattr(section, field, value)
    return check(config, replace(gather_facts(config, machine, base.split()), **facts))
