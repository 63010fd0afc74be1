"""Stage ``uniform``: a model as a GGUF file in which every tensor has one type that fits it.

What a type costs each tensor is read from it: its bytes, and the weights as they are after
rounding. Nothing loads it, so that no reload is checked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.methods.backends.gguf_types import TensorType
from runner.pipeline.stages.base import Cost, Stage, StageContext
from runner.pipeline.stages.jobs.gguf import FILE as MODEL_FILE
from runner.pipeline.stages.jobs.gguf import STAGE as GGUF
from runner.pipeline.stages.jobs.gguf import lossless_dtype
from runner.pipeline.stages.jobs.imatrix import FILE as IMATRIX_FILE
from runner.pipeline.stages.jobs.imatrix import STAGE as IMATRIX

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.methods.recipe import Recipe
    from runner.pipeline.context import RunContext
    from runner.pipeline.stage_job import StageResult

FILE = "uniform.gguf"


@dataclass
class UniformRequest:
    """An unquantized GGUF file, and the type to give its tensors."""

    gguf_directory: Path
    type: TensorType
    imatrix_directory: Path | None
    """Result of stage ``imatrix``."""


@dataclass
class StoredTensor:
    """What a matrix takes."""

    weights: int
    bytes: int


@dataclass
class UniformResult:
    """The file lies in ``uniform.gguf`` beside the result."""

    tensors: dict[str, StoredTensor]
    """Matrices that have the type; rows of others do not fit its blocks."""


class UniformStage(Stage[UniformRequest, UniformResult]):
    """Writes files of one type."""

    name = "uniform"
    schema_version = 1
    request = UniformRequest
    result = UniformResult

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Every weight is rounded."""
        return Cost(tokens=0.0, converted_bits=16.0, stored_bits=4.5)

    def run(self, request: UniformRequest, context: StageContext) -> UniformResult:
        """Round with llama.cpp, see which tensors got the type."""
        import numpy as np

        from runner.data.models.gguf_file import read_gguf
        from runner.methods.backends.gguf_mixes import uniform_choice
        from runner.methods.backends.llama_cpp import quantize_file

        matrix = None
        if request.imatrix_directory is not None:
            with np.load(request.imatrix_directory / IMATRIX_FILE) as stored:
                matrix = dict(stored)
        file = context.output / FILE
        quantize_file(
            request.gguf_directory / MODEL_FILE,
            file,
            uniform_choice(request.type),
            threads=context.threads,
            matrix=matrix,
            progress=context.progress,
        )
        return UniformResult(
            {
                one.name: StoredTensor(int(one.n_elements), int(one.n_bytes))
                for one in read_gguf(file).tensors
                if len(one.shape) > 1 and one.tensor_type.name == request.type.value
            }
        )

    def of_types(
        self, run: "RunContext", recipe: "Recipe", types: list[TensorType]
    ) -> "dict[str, StageResult[UniformResult]]":
        """The unquantized model in each of some types, by the type's name.

        Args:
            run: Whose model.
            recipe: Whose calibration text importance matrices are measured on, if on any.
            types: Which.
        """
        from runner.methods.backends import llama_cpp

        inputs, model = run.inputs, run.model
        dense = GGUF.convert(inputs, model, lossless_dtype(model.directory))
        matrix = IMATRIX.measured(inputs, model, dense, recipe)
        environment = inputs.environment(llama_cpp.NAME, recipe.method.environment, "cpu")
        found = {}
        for kind in types:
            request = UniformRequest(dense.directory, kind, matrix.directory if matrix else None)
            determinants = {
                **dense.identity,
                "type": kind.value,
                "imatrix": matrix.address.key if matrix else None,
                "versions": environment.versions(("llama-cpp-python", "gguf")),
            }
            found[kind.value] = inputs.obtain(
                self, request, environment,
                title=f"{model.label} in {kind.value}", determinants=determinants, device="cpu",
            )  # fmt: skip
        return found


STAGE = UniformStage()
