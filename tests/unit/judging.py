"""A command line's verdicts, for the tests of legality."""

import re
from collections.abc import Callable

from runner.config.schema.root import Config
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import Machine
from runner.validation.check import check
from runner.validation.verdict import Severity, Verdict

Compose = Callable[..., Config]


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
