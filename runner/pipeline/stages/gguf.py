"""Stage ``gguf``: an unquantized model as a GGUF file, for engines that read nothing else."""

from dataclasses import dataclass
from pathlib import Path

from runner.data.models.tensors import TensorReport, report_tensors
from runner.pipeline.worker.job import StageContext

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


class GgufStage:
    """Converts models."""

    name = "gguf"
    schema_version = 1
    request = GgufRequest
    result = GgufResult

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
