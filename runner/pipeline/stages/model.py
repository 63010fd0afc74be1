"""Stage ``model``: make a model from a package or a generator, in Hugging Face layout."""

from dataclasses import dataclass
from pathlib import Path

from runner.config.schema.model import Model
from runner.data.models.materialise import materialise
from runner.data.models.tensors import TensorReport, report_tensors
from runner.pipeline.worker.job import StageContext

DIRECTORY = "model"


@dataclass
class ModelRequest:
    """Which model to make."""

    model: Model


@dataclass
class ModelResult:
    """The model lies in ``model/`` beside the result."""

    tensors: TensorReport


class ModelStage:
    """Makes models that are not files yet."""

    name = "model"
    schema_version = 1
    request = ModelRequest
    result = ModelResult

    def run(self, request: ModelRequest, context: StageContext) -> ModelResult:
        """Fetch or generate, convert, save."""
        directory: Path = context.output / DIRECTORY
        directory.mkdir()
        context.progress(0, 1, "fetching and converting the model")
        materialise(request.model, directory, context.cache)
        context.progress(1, 1, "fetching and converting the model")
        return ModelResult(tensors=report_tensors(directory))


STAGE = ModelStage()
