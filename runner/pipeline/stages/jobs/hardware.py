"""Stage ``hardware``: measure this machine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.pipeline.stages.base import TRANSFORMERS, Cost, Stage, StageContext
from runner.planning.hardware.measure import Measurement, measure
from runner.planning.hardware.products import TYPES
from runner.store.inventory import Retention

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult


@dataclass
class HardwareRequest:
    """What to measure."""

    device: str
    last_level_cache_bytes: int | None


class HardwareStage(Stage[HardwareRequest, Measurement]):
    """Measures bandwidth and arithmetic rates."""

    name = "hardware"
    schema_version = 1
    request = HardwareRequest
    result = Measurement
    retention = Retention.always

    def of_machine(self, inputs: "Inputs") -> "StageResult[Measurement]":
        """This machine's limits: measured once, then kept with the store."""
        # One GPU of those in use, which are alike.
        machine = inputs.machine.using(inputs.compute.gpus[:1])
        environment = inputs.environment(TRANSFORMERS)
        determinants: dict[str, Any] = {
            "machine": machine.identity(),
            "device": inputs.compute.device,
            "threads": inputs.compute.threads,
            "versions": environment.versions(("torch",)),
        }
        if inputs.compute.device != "cpu":  # so that one without a newer format is not reused
            determinants["formats"] = tuple(TYPES)
        request = HardwareRequest(inputs.compute.device, machine.last_level_cache_bytes)
        return inputs.obtain(
            self, request, environment, title="hardware local", determinants=determinants
        )

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Every format and size once."""
        return Cost(seconds=30.0)

    def run(self, request: HardwareRequest, context: StageContext) -> Measurement:
        """Run the measurement on this process's threads."""
        return measure(
            context.threads, request.last_level_cache_bytes, request.device, context.progress
        )


STAGE = HardwareStage()
