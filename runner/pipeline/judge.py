"""Validates a configuration; the one place that gathers facts for it."""

from dataclasses import dataclass

from runner.config.schema.root import Config
from runner.pipeline.facts import gather_facts
from runner.pipeline.stages import in_order
from runner.planning.hardware.detect import Machine
from runner.validation.check import check
from runner.validation.context import Facts
from runner.validation.verdict import Severity, Verdict


@dataclass(frozen=True)
class Judgement:
    """What validation and the stages themselves say, and what they knew."""

    facts: Facts
    verdicts: list[Verdict]

    @property
    def reasons(self) -> list[str]:
        """Why it cannot be carried out; empty when it can."""
        return self._of(Severity.illegal)

    @property
    def warnings(self) -> list[str]:
        """Why its result may not be the one hoped for."""
        return self._of(Severity.warning)

    def _of(self, severity: Severity) -> list[str]:
        return [str(verdict) for verdict in self.verdicts if verdict.severity is severity]


def judge(config: Config, machine: Machine, overrides: list[str]) -> Judgement:
    """Judge a configuration before any work.

    Raises:
        UsageError: A local model's directory is not one, or a text cannot be read.
    """
    facts = gather_facts(config, machine, overrides)
    own = (verdict for s in in_order(config.stages) for verdict in s.check(config, facts))
    return Judgement(facts, [*check(config, facts), *own])
