"""Stage ``model``: create a model from a package or a generator, in Hugging Face layout."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.model import Model, ModelKind
from runner.data.models.directory import MADE_DTYPE
from runner.data.models.fingerprint import fingerprint
from runner.data.models.gguf_config import check_readable
from runner.data.models.gguf_header import gguf_dtype, read_header
from runner.data.models.gguf_source import gguf_file
from runner.data.models.locate import locate, pickled
from runner.data.models.materialise import materialise
from runner.data.models.tensors import TensorReport, report_tensors
from runner.data.models.view import only_read
from runner.data.models.weights import stored_dtype
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.stages.base import TRANSFORMERS, Cost, Stage, StageContext
from runner.pipeline.stages.jobs.weights import STAGE as WEIGHTS
from runner.planning.compute import model_config, told_dtype
from runner.store.inventory import Retention

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.inputs import Inputs

DIRECTORY = "model"


@dataclass
class ModelRequest:
    """Which model to make."""

    model: Model


@dataclass
class ModelResult:
    """The model lies in ``model/`` beside the result."""

    tensors: TensorReport


class ModelStage(Stage[ModelRequest, ModelResult]):
    """Makes models that are not files yet."""

    name = "model"
    schema_version = 1
    request = ModelRequest
    result = ModelResult
    retention = Retention.always

    def run(self, request: ModelRequest, context: StageContext) -> ModelResult:
        """Fetch or generate, convert, save."""
        directory: Path = context.output / DIRECTORY
        directory.mkdir()
        context.progress(0, 1, "fetching and converting the model")
        materialise(request.model, directory, context.cache)
        context.progress(1, 1, "fetching and converting the model")
        return ModelResult(tensors=report_tensors(directory))

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """All weights are written in 16 bits."""
        return Cost(tokens=0.0, converted_bits=16.0, stored_bits=16.0)


STAGE = ModelStage()


def locate_model(inputs: "Inputs") -> Checkpoint:
    """The unquantized model (or whatever ``model`` names), on this machine's disk."""
    model = inputs.config.model
    identity = {"model": fingerprint(model, inputs.session.store.cache)}
    label = inputs.config.model_label
    source = gguf_file(model)
    made_of, dtype = model, MADE_DTYPE
    located = None
    if source is None and model.kind in (ModelKind.local, ModelKind.hub):
        located = locate(model)
        if not pickled(located, model):
            return of_directory(inputs, located, identity, label)
        made_of = replace(model, name=located.name, kind=ModelKind.local, path=str(located))
    if source is not None:
        # Wherever it lies, and whatever it is called: what is made of it is the same.
        made_of = Model(name=source.stem, kind=ModelKind.local, path=str(source))
        header = read_header(source)
        check_readable(header)
        dtype = gguf_dtype(header, MADE_DTYPE)
    environment = inputs.environment(TRANSFORMERS)
    versions = environment.versions(("torch", "transformers", "tokenizers", "gguf"))
    made = inputs.obtain(
        STAGE, ModelRequest(made_of), environment,
        title=f"model {model.name}", determinants={**identity, "versions": versions},
    )  # fmt: skip
    directory = made.directory / DIRECTORY
    if located is not None and directory.is_dir():
        return _told(inputs, directory, identity, label)
    return Checkpoint(directory, "float", identity, label, dtype)


def of_directory(
    inputs: "Inputs", located: Path, identity: dict[str, Any], label: str
) -> Checkpoint:
    """The model of a directory in Hugging Face layout, every tensor accounted for.

    Args:
        inputs: Of the run.
        located: The directory, as ``locate`` found it.
        identity: Of its content.
        label: What it is called.
    """
    return _told(inputs, _seen(inputs, located), identity, label)


def _seen(inputs: "Inputs", directory: Path) -> Path:
    """What libraries are to see of a directory."""
    if inputs.only_looks:
        return directory
    trusted = inputs.config.model.trust_remote_code
    return only_read(directory, inputs.session.store.cache, trust_remote_code=trusted)


def _told(inputs: "Inputs", directory: Path, identity: dict[str, Any], label: str) -> Checkpoint:
    dtype = stored_dtype(directory)
    states_dtype = told_dtype(directory) == dtype
    subject = Checkpoint(directory, _format(directory), identity, label, dtype, states_dtype)
    WEIGHTS.account(inputs, subject)
    return subject


def _format(directory: Path) -> str:
    quantization = model_config(directory).get("quantization_config") or {}
    name: str = quantization.get("quant_method") or "float"
    return name
