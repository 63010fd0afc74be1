"""All rules, in one place."""

from runner.config.schema.root import Config
from runner.validation.common_mistakes import check_common_mistakes
from runner.validation.context import Facts
from runner.validation.evaluation import check_evaluation
from runner.validation.floor import check_floor
from runner.validation.kv_cache import check_kv_cache
from runner.validation.mixed import check_sensitivity
from runner.validation.plan import check_plan
from runner.validation.recipe import check_recipe
from runner.validation.stages import check_stages
from runner.validation.tasks import check_tasks
from runner.validation.verdict import Severity, Verdict


def check(config: Config, facts: Facts) -> list[Verdict]:
    """Every finding on a configuration, the illegal ones first."""
    verdicts = [
        *check_stages(config, facts),
        *check_evaluation(config, facts),
        *check_floor(config, facts),
        *check_kv_cache(config, facts),
        *check_tasks(config, facts),
        *check_recipe(config, facts),
        *check_common_mistakes(config, facts),
        *check_plan(config, facts),
        *check_sensitivity(config, facts),
    ]
    # What stands in the way of several things is told once.
    return sorted(
        dict.fromkeys(verdicts), key=lambda verdict: verdict.severity is not Severity.illegal
    )
