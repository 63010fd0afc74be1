"""Creates models that do not exist yet as files in Hugging Face layout."""

from pathlib import Path

from runner.config.schema.model import Model, ModelKind
from runner.data.models.gguf_source import gguf_file
from runner.errors import UsageError


def materialise(model: Model, destination: Path, cache: Path) -> None:
    """Write a model into the existing empty directory ``destination``.

    Raises:
        StageError: Its package cannot be had or is not what it was.
        UsageError: The model's kind is not made but found (hub, and local unless its path is a
            GGUF file, or its weights are pickles).
    """
    if model.kind is ModelKind.package:
        from runner.data.models.package import write_package_model

        write_package_model(model, destination, cache)
    elif model.kind is ModelKind.generated:
        from runner.data.models.generated import write_generated_model

        write_generated_model(model, destination)
    elif model.kind is ModelKind.local and (file := gguf_file(model)):
        from runner.data.models.gguf_model import write_gguf_model

        write_gguf_model(file, destination)
    elif model.kind is ModelKind.local and model.allow_pickle:
        from runner.data.models.pickles import write_unpickled

        write_unpickled(model, destination, cache)
    else:
        raise UsageError(f"a model of kind {model.kind.value} is not made")
