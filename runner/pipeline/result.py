"""The typed result of a run, for notebooks and tests."""

from dataclasses import dataclass

from runner.pipeline.stages.bench import STAGE as BENCH
from runner.pipeline.stages.bench import BenchResult
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.pipeline.stages.eval import EvalResult
from runner.pipeline.stages.plan import STAGE as PLAN
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.pipeline.stages.quantize import QuantizeResult
from runner.pipeline.stages.sensitivity import STAGE as SENSITIVITY
from runner.pipeline.stages.sensitivity import SensitivityResult
from runner.pipeline.stages.serving import STAGE as SERVING
from runner.pipeline.stages.serving import ServingResult
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.pipeline.stages.tasks import TasksResult
from runner.planning.result import PlanResult
from runner.store.records import BASELINE, RECIPE, RunRecord, Status


@dataclass(frozen=True)
class RunResult:
    """The results of one run. Fields of stages that did not run are ``None``."""

    record: RunRecord
    quantize: QuantizeResult | None
    eval: EvalResult | None
    """The recipe's quality; the unquantized model's in a run without a recipe."""
    tasks: TasksResult | None
    """The recipe's scores; the unquantized model's in a run without a recipe."""
    bench: BenchResult | None
    sensitivity: SensitivityResult | None
    serving: ServingResult | None
    baseline_eval: EvalResult | None
    baseline_tasks: TasksResult | None
    baseline_bench: BenchResult | None
    plan: PlanResult | None
    baseline_serving: ServingResult | None

    @property
    def status(self) -> Status:
        """Final status of the run."""
        return self.record.status

    @property
    def reason(self) -> str | None:
        """Why the run did not succeed; ``None`` if it did."""
        return self.record.reason

    @classmethod
    def of(cls, record: RunRecord) -> "RunResult":
        """Read the typed results from a record."""
        baseline_eval = record.result(EVAL, BASELINE)
        baseline_tasks = record.result(TASKS, BASELINE)
        baseline_bench = record.result(BENCH, BASELINE)
        baseline_serving = record.result(SERVING, BASELINE)
        return cls(
            record=record,
            quantize=record.result(QUANTIZE, RECIPE),
            eval=record.result(EVAL, RECIPE) or baseline_eval,
            tasks=record.result(TASKS, RECIPE) or baseline_tasks,
            bench=record.result(BENCH, RECIPE) or baseline_bench,
            sensitivity=record.result(SENSITIVITY, BASELINE),
            serving=record.result(SERVING, RECIPE) or baseline_serving,
            baseline_eval=baseline_eval,
            baseline_tasks=baseline_tasks,
            baseline_bench=baseline_bench,
            plan=record.result(PLAN, RECIPE),
            baseline_serving=baseline_serving,
        )
