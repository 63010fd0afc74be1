"""All rules, in one place."""

from runner.config.root import Config
from runner.legality.evaluation import check_evaluation
from runner.legality.facts import Facts
from runner.legality.habits import check_habits
from runner.legality.mixed import check_sensitivity
from runner.legality.plan import check_plan
from runner.legality.recipe import check_recipe
from runner.legality.stages import check_stages
from runner.legality.tasks import check_tasks
from runner.legality.verdict import Severity, Verdict


def check(config: Config, facts: Facts) -> list[Verdict]:
    """Every finding on a configuration, the illegal ones first."""
    verdicts = [
        *check_stages(config, facts),
        *check_evaluation(config, facts),
        *check_tasks(config, facts),
        *check_recipe(config, facts),
        *check_habits(config, facts),
        *check_plan(config, facts),
        *check_sensitivity(config, facts),
    ]
    return sorted(verdicts, key=lambda verdict: verdict.severity is not Severity.illegal)
