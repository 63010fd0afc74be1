"""The typed result of a run, for notebooks and tests."""

from dataclasses import dataclass
from typing import TypeVar

from runner.pipeline.stages.bench import BenchResult
from runner.pipeline.stages.eval import EvalResult
from runner.pipeline.stages.quantize import QuantizeResult
from runner.pipeline.stages.sensitivity import SensitivityResult
from runner.pipeline.stages.serving import ServingResult
from runner.pipeline.stages.tasks import TasksResult
from runner.planning.result import PlanResult
from runner.store.records import RunRecord, Status
from runner.util.serialise import from_json

T = TypeVar("T")


@dataclass(frozen=True)
class RunResult:
    """What one run found. Fields of stages that did not run are ``None``."""

    record: RunRecord
    quantize: QuantizeResult | None
    eval: EvalResult | None
    """The recipe's quality; the unquantized model's when that is what the run looked at."""
    tasks: TasksResult | None
    """The recipe's scores; the unquantized model's when that is what the run looked at."""
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
        """How the run ended."""
        return self.record.status

    @property
    def reason(self) -> str | None:
        """Why it did not end well."""
        return self.record.reason

    @classmethod
    def of(cls, record: RunRecord) -> "RunResult":
        """Read the typed results out of a record."""

        def read(kind: type[T], stage: str, subject: str) -> T | None:
            content = record.stage(stage, subject)
            return None if content is None else from_json(kind, content)

        baseline_eval = read(EvalResult, "eval", "baseline")
        baseline_tasks = read(TasksResult, "tasks", "baseline")
        baseline_bench = read(BenchResult, "bench", "baseline")
        baseline_serving = read(ServingResult, "serving", "baseline")
        return cls(
            record=record,
            quantize=read(QuantizeResult, "quantize", "recipe"),
            eval=read(EvalResult, "eval", "recipe") or baseline_eval,
            tasks=read(TasksResult, "tasks", "recipe") or baseline_tasks,
            bench=read(BenchResult, "bench", "recipe") or baseline_bench,
            sensitivity=read(SensitivityResult, "sensitivity", "baseline"),
            serving=read(ServingResult, "serving", "recipe") or baseline_serving,
            baseline_eval=baseline_eval,
            baseline_tasks=baseline_tasks,
            baseline_bench=baseline_bench,
            plan=read(PlanResult, "plan", "recipe"),
            baseline_serving=baseline_serving,
        )
