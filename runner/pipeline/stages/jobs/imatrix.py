"""Stage ``imatrix``: mean squares of the inputs of a model's layers on calibration text."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.pipeline.stages.base import Cost, Stage, StageContext
from runner.pipeline.stages.jobs.gguf import FILE as MODEL_FILE
from runner.pipeline.stages.jobs.windows import load_windows

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.methods.recipe import Recipe
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult

FILE = "imatrix.npz"


@dataclass
class ImatrixRequest:
    """A model, in Hugging Face layout and as a GGUF file, and calibration windows."""

    model_directory: Path
    gguf_directory: Path
    windows_directory: Path
    """Result of stage ``windows``."""
    compute_dtype: str
    """Torch dtype name of forward passes."""
    trust_remote_code: bool


@dataclass
class ImatrixResult:
    """The vectors lie in ``imatrix.npz`` beside the result, by the GGUF file's tensor names."""

    tensors: int
    tokens: int


class ImatrixStage(Stage[ImatrixRequest, ImatrixResult]):
    """Measures importance matrices."""

    name = "imatrix"
    schema_version = 1
    request = ImatrixRequest
    result = ImatrixResult

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Calibration text goes through the decoder once."""
        return Cost(tokens=float(config.calibration.tokens))

    def run(self, request: ImatrixRequest, context: StageContext) -> ImatrixResult:
        """Run the windows through the model, store the means."""
        import numpy as np

        from runner.methods.backends.llama_cpp import importance_matrix

        windows, _ = load_windows(request.windows_directory)
        matrix = importance_matrix(
            request.model_directory,
            request.gguf_directory / MODEL_FILE,
            windows,
            trust_remote_code=request.trust_remote_code,
            device="cpu",
            dtype=request.compute_dtype,
            progress=context.progress,
        )
        np.savez(context.output / FILE, **matrix)  # type: ignore[arg-type]
        return ImatrixResult(len(matrix), sum(map(len, windows)))

    def measured(
        self, inputs: "Inputs", model: "Checkpoint", dense: "Checkpoint", recipe: "Recipe"
    ) -> "StageResult[ImatrixResult] | None":
        """That of a recipe's calibration text; ``None`` for a recipe that looks at none.

        Args:
            inputs: Of the run.
            model: In Hugging Face layout.
            dense: The same as a GGUF file.
            recipe: Whose.
        """
        from runner.methods.backends import llama_cpp
        from runner.pipeline.stages.jobs.windows import calibration_windows

        windows = calibration_windows(inputs, model, recipe.calibration)
        if windows is None:
            return None
        environment = inputs.environment(llama_cpp.NAME, recipe.method.environment, "cpu")
        request = ImatrixRequest(
            model_directory=model.directory,
            gguf_directory=dense.directory,
            windows_directory=windows.directory,
            compute_dtype=inputs.rounding_dtype(model, "cpu"),
            trust_remote_code=inputs.config.model.trust_remote_code,
        )
        determinants = {
            **model.identity,
            **dense.identity,
            "calibration_windows": windows.known.sha256 if windows.known else None,
            "compute_dtype": request.compute_dtype,
            "versions": environment.versions(("transformers", "torch")),
        }
        return inputs.obtain(
            self, request, environment,
            title=f"importance matrix of {model.label}", determinants=determinants, device="cpu",
        )  # fmt: skip


STAGE = ImatrixStage()
