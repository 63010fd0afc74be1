"""Stage ``histogram``: how a layer's weights are distributed, and how heavy the tails are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.bounds import bounded
from runner.errors import StageError
from runner.pipeline.stages.base import TRANSFORMERS, Cost, Stage, StageContext

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult


@dataclass
class Histogram:
    """The section ``histogram`` of the configuration."""

    layer: str = bounded("model.layers.0.mlp.up_proj", filled=True)
    """Name of a linear layer."""
    bins: int = bounded(32, least=2, most=10_000)
    """Intervals of equal width between the smallest and the largest weight."""


@dataclass
class HistogramRequest:
    """A checkpoint, and what to count."""

    directory: Path
    layer: str
    bins: int


@dataclass
class HistogramResult:
    """One layer's weights."""

    edges: list[float]
    """Of the bins, one more than there are."""
    counts: list[int]
    weights: int
    kurtosis: float
    """Fourth standardized moment: 3 for a normal distribution, more with outliers."""


class HistogramStage(Stage[HistogramRequest, HistogramResult]):
    """Reads one tensor of a checkpoint's files."""

    name = "histogram"
    schema_version = 1
    request = HistogramRequest
    result = HistogramResult
    section = Histogram
    asks_engine = False
    headline = ("histogram/kurtosis",)

    def run(self, request: HistogramRequest, context: StageContext) -> HistogramResult:
        """In a worker: find the tensor, count.

        Raises:
            StageError: No file holds the layer's weights as numbers.
        """
        import numpy as np
        from safetensors import safe_open

        context.progress(0, 1, f"reading {request.layer}")
        for path in sorted(request.directory.glob("*.safetensors")):
            with safe_open(path, framework="pt") as tensors:
                if (name := f"{request.layer}.weight") in tensors.keys():  # noqa: SIM118
                    values = tensors.get_tensor(name).float().numpy().ravel()
                    break
        else:
            raise StageError(f"{request.directory} holds no tensor {request.layer}.weight")
        counts, edges = np.histogram(values, bins=request.bins)
        shifted = values.astype(np.float64) - values.mean()
        return HistogramResult(
            edges=edges.tolist(),
            counts=counts.tolist(),
            weights=values.size,
            kurtosis=float((shifted**4).mean() / (shifted**2).mean() ** 2),
        )

    def obtain(self, run: "RunContext", checkpoint: "Checkpoint") -> "StageResult[HistogramResult]":
        """In the control process: what the result of one checkpoint depends on."""
        wanted = run.section(Histogram)
        environment = run.inputs.environment(TRANSFORMERS)
        return run.inputs.obtain(
            self,
            HistogramRequest(checkpoint.directory, wanted.layer, wanted.bins),
            environment,
            title=f"histogram {checkpoint.label}",
            determinants={
                **checkpoint.identity,
                "layer": wanted.layer,
                "bins": wanted.bins,
                "versions": environment.versions(("numpy", "safetensors")),
            },
        )

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """One tensor is read."""
        return Cost(seconds=2.0)


STAGE = HistogramStage()
