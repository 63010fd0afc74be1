"""Stage ``hardware``: measure the machine at hand."""

from dataclasses import dataclass

from runner.pipeline.worker.job import StageContext
from runner.planning.hardware.measure import Measurement, measure


@dataclass
class HardwareRequest:
    """What to measure."""

    device: str
    last_level_cache_bytes: int | None


class HardwareStage:
    """Measures bandwidth and arithmetic rates."""

    name = "hardware"
    schema_version = 1
    request = HardwareRequest
    result = Measurement

    def run(self, request: HardwareRequest, context: StageContext) -> Measurement:
        """Run the measurement on this process's threads."""
        return measure(
            context.threads, request.last_level_cache_bytes, request.device, context.progress
        )


STAGE = HardwareStage()
