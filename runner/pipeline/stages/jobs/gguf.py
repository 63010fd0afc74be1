"""Stage ``gguf``: an unquantized model as a GGUF file, for engines that need one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.models.tensors import TensorReport, report_tensors
from runner.data.models.weights import stored_dtype
from runner.pipeline.stages.base import Cost, Stage, StageContext
from runner.store.inventory import Retention

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs

DIRECTORY = "gguf"
FILE = "model.gguf"


@dataclass
class GgufRequest:
    """A model in Hugging Face layout."""

    model_directory: Path
    dtype: str
    """Torch dtype name that matrices are stored in."""


@dataclass
class GgufResult:
    """The file lies in ``gguf/`` beside the result."""

    tensors: TensorReport


_OUTTYPES = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}


def lossless_dtype(model_directory: Path) -> str:
    """The type in which a GGUF file keeps a model's weights as they are."""
    found = stored_dtype(model_directory)
    return found if found in _OUTTYPES else "bfloat16"


class GgufStage(Stage[GgufRequest, GgufResult]):
    """Converts models."""

    name = "gguf"
    schema_version = 1
    request = GgufRequest
    result = GgufResult
    retention = Retention.shared_input

    def convert(self, inputs: "Inputs", subject: "Checkpoint", dtype: str) -> "Checkpoint":
        """An unquantized model as a GGUF file whose matrices are stored in ``dtype``."""
        from runner.methods.backends import llama_cpp

        # The converter needs no GPU, and the build for GPUs takes long to compile.
        environment = inputs.environment(llama_cpp.NAME, device="cpu")
        versions = environment.versions(("llama-cpp-python", "gguf", "transformers"))
        converted = inputs.obtain(
            self, GgufRequest(subject.directory, dtype), environment,
            title=f"GGUF of {subject.label}",
            determinants={**subject.identity, "dtype": dtype, "versions": versions}, device="cpu",
        )  # fmt: skip
        return replace(
            subject,
            directory=converted.directory / DIRECTORY,
            format="gguf",
            identity={"gguf": converted.address.key},
        )

    def lossless(self, inputs: "Inputs", subject: "Checkpoint") -> Path:
        """The file of an unquantized model in the type that its weights have."""
        return self.convert(inputs, subject, lossless_dtype(subject.directory)).directory / FILE

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Nothing is computed."""
        return Cost(tokens=0.0)

    def run(self, request: GgufRequest, context: StageContext) -> GgufResult:
        """Fetch llama.cpp's converter, convert."""
        from runner.methods.backends.llama_cpp import convert, converter

        directory: Path = context.output / DIRECTORY
        directory.mkdir()
        context.progress(0, 1, "converting to GGUF")
        convert(
            request.model_directory,
            directory / FILE,
            _OUTTYPES[request.dtype],
            converter(context.cache),
        )
        return GgufResult(tensors=report_tensors(directory))


STAGE = GgufStage()
