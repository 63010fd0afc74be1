"""Stage ``plan``: predictions and a recommendation, in the control process, without torch."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.config.schema.architecture import Architecture
from runner.config.schema.hardware import LOCAL, Hardware
from runner.config.schema.model import Model
from runner.config.schema.plan import Plan
from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.pipeline.experience.data_points import all_records, stored_cases
from runner.pipeline.experience.from_store import LocalEngine, measured_quality
from runner.pipeline.stage_job import StageResult
from runner.pipeline.stages.base import Cost, Place, Stage
from runner.planning.commands import commands
from runner.planning.compute_for import compute_for
from runner.planning.devices import ALL, devices_of
from runner.planning.formats import Format, find_format
from runner.planning.local import local_device, machine_key
from runner.planning.model_shape import Shape
from runner.planning.option import Option
from runner.planning.planner import Question, make_plan
from runner.planning.ranking import best
from runner.planning.recipes import recipes_of
from runner.planning.recommendation import recommendation
from runner.planning.result import PlanResult
from runner.planning.stated_errors import stated_errors
from runner.store.distinct_names import is_same_model
from runner.store.objects import Address
from runner.store.records import RECIPE, RunRecord
from runner.util.serialise import to_json
from runner.validation.common_mistakes import mistakes_of_plan

if TYPE_CHECKING:
    from runner.pipeline.context import Expected, RunContext
    from runner.pipeline.session import Session


@dataclass
class PlanRequest:
    """Nothing: what a plan is made from is the configuration and the store."""


class PlanStage(Stage[PlanRequest, PlanResult]):
    """Predicts."""

    name = "plan"
    schema_version = 2
    request = PlanRequest
    result = PlanResult
    place = Place.control
    loads_model = False
    asks_engine = False
    follows = ()

    def carry_out(self, run: "RunContext") -> None:
        """Predict every combination that the configuration names, and decide.

        Raises:
            UsageError: Something that the plan names is unknown.
        """
        from runner.planning.model_facts import model_facts

        start, session = time.monotonic(), run.session
        facts = run.facts or model_facts(run.config.model)
        result = make_result(run.config, facts.architecture, session, facts.published_as)
        seconds = time.monotonic() - start
        content = to_json(result)
        address = Address.of(self.name, {"schema_version": self.schema_version, "result": content})
        session.display.line(f"  plan {result.model}: {len(result.options)} options predicted")
        made = StageResult(
            title=f"plan {result.model}",
            stage=self,
            address=address,
            directory=session.store.directory(address),
            content=content,
            # It is over before a peak could be told apart from the control process's own.
            resources={"seconds": seconds, "peak_memory_bytes": None},
            environment="control",
            versions={"python": sys.version.split()[0]},
            reused=False,
            seconds=seconds,
        )
        run.keep(self.name, RECIPE, made)

    def expects(self, run: "Expected") -> list[tuple[str, str]]:
        """One."""
        return [(self.name, label) for label in run.own]

    def metrics(self, result: PlanResult) -> dict[str, float | None]:
        """The predicted best option's figures; ``None`` where nothing serves."""
        take = best(result.options)
        metrics: dict[str, float | None] = {"plan/options": len(result.options)}
        if take is not None:
            token, first = take.time_per_output_token_seconds, take.time_to_first_token_seconds
            cost = take.cost_per_million_tokens
            metrics["plan/predicted_time_per_output_token_seconds"] = (
                token.expected if token else None
            )
            metrics["plan/predicted_time_to_first_token_seconds"] = (
                first.expected if first else None
            )
            metrics["plan/predicted_cost_per_million_tokens"] = cost.expected if cost else None
            metrics["plan/predicted_monthly_cost"] = take.monthly_cost
            metrics["plan/devices"] = take.devices_needed
        return metrics

    def cost(self, config: Config, on_gpu: bool) -> Cost:
        """Arithmetic."""
        return Cost(seconds=1.0)


STAGE = PlanStage()


def make_result(
    config: Config,
    architecture: Architecture,
    session: "Session",
    published_as: str | None = None,
) -> PlanResult:
    """The plan itself.

    Args:
        config: Of the run.
        architecture: Of its model.
        session: Whose machine and store it is made with.
        published_as: Recipe in which the model is published, if not in 16 bits.

    Raises:
        UsageError: Something that the plan names is unknown, or ``local`` was never measured.
    """
    plan, shape = config.plan, Shape(architecture)
    formats = tuple(find_format(label, shape) for label in recipes_of(plan, published_as))
    devices = devices_of(plan.devices, config.hardware)
    compute = compute_for(config, session.machine)
    machine = session.machine.using(compute.gpus)
    if any(device.name == LOCAL for device in devices):
        local = local_device(machine, compute.device, session.store.root)
        if local is None:
            raise UsageError(
                "plan.devices: local has not been measured yet; run runner stages=[bench] "
                "method=none, or name devices of the table"
            )
        devices = [local if device.name == LOCAL else device for device in devices]
    records = all_records(session.store.runs)
    here = LocalEngine(
        machine=machine_key(machine.to_dict(), compute.device),
        engine=config.engine.name,
        device=compute.device,
        dtype=compute.dtype,
        cases=stored_cases(records),
    )
    question = Question(
        shape=shape,
        formats=formats,
        devices=tuple(devices),
        plan=plan,
        kv_cache=config.kv_cache,
        timing=here.timing,
        held=here.held,
        serving=here.serving,
        published_as=published_as,
        measured=measured_quality(_of_model(records, config.model), config.model.name),
    )
    options = make_plan(question)
    by_name = {device.name: device for device in devices}
    return PlanResult(
        model=config.model.name,
        parameters=shape.parameters,
        active_parameters=shape.active_parameters,
        context_length=plan.context_length,
        prompt_tokens=plan.prompt_tokens,
        concurrency=plan.concurrency,
        latency_seconds=plan.latency_seconds,
        tokens_per_day=plan.tokens_per_day,
        recommendation=recommendation(options, plan, by_name),
        notes=[
            *map(
                str,
                mistakes_of_plan(
                    shape, *_first(options, formats, devices, plan), plan, config.kv_cache
                ),
            ),
            *_of_the_published(formats, published_as),
            *_of_budgets(formats),
        ],
        options=options,
        ttft_seconds=plan.ttft_seconds,
        named_devices=_named(plan, config.hardware, devices),
        commands=commands(
            options,
            config.model,
            plan,
            published_as,
            by_name,
            kv_cache=config.kv_cache,
            shape=shape,
        ),
        errors=stated_errors(options),
    )


def _named(plan: Plan, hardware: Hardware, devices: Sequence[Hardware]) -> list[str]:
    """Devices that somebody asked about, by name."""
    asked = plan.devices != [ALL] if plan.devices else hardware.kind != LOCAL
    return [device.name for device in devices] if asked else []


def _first(
    options: Sequence[Option],
    formats: Sequence[Format],
    devices: Sequence[Hardware],
    plan: Plan,
) -> tuple[list[Format], list[Hardware]]:
    """Formats and devices of the first options: nobody needs a warning of what is not taken."""
    first = options[: plan.rows]
    recipes, names = {one.recipe for one in first}, {one.device for one in first}
    return (
        [fmt for fmt in formats if fmt.label in recipes],
        [device for device in devices if device.name in names],
    )


def _of_the_published(formats: Sequence[Format], published_as: str | None) -> Iterator[str]:
    """What other recipes of a model are made from that is published in one."""
    others = [fmt.label for fmt in formats if fmt.label != published_as]
    if published_as is not None and others:
        yield (
            f"the model is published as {published_as}: {', '.join(others)} would have to be made "
            "from that, dequantized"
        )


def _of_budgets(formats: Sequence[Format]) -> Iterator[str]:
    """What a plan does not know of recipes whose layers get formats of their own."""
    labels = [fmt.label for fmt in formats if fmt.budget is not None]
    if labels:
        each = "of them" if len(labels) > 1 else "of it"
        yield (
            f"{', '.join(labels)}: the budget says how much is stored, not which layers are "
            f"narrower; sizes {each} are those of the whole budget, and times take all layers for "
            "alike, with weights alone rounded"
        )
    if any(fmt.budget is not None and fmt.budget.is_of_active_bytes_alone for fmt in formats):
        yield (
            "a budget of active bytes alone does not say how much the experts take that a token "
            "does not meet: all layers are counted alike; set bytes too (auto90GB+20GBactive-g64)"
        )


def _of_model(records: list[RunRecord], model: Model) -> list[RunRecord]:
    """Records of these very weights, whatever they were called."""
    same = (r for r in records if is_same_model(r.config.get("model", {}), to_json(model)))
    return [replace(record, model=model.name) for record in same]
