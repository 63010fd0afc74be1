"""Makes models that are not files in Hugging Face layout yet."""

from pathlib import Path

from runner.config.model import Model, ModelKind
from runner.errors import UsageError


def materialise(model: Model, destination: Path, cache: Path) -> None:
    """Write a model into the existing empty directory ``destination``.

    Raises:
        StageError: Its package cannot be had or is not what it was.
        UsageError: The model's kind is not made but found (hub, local).
    """
    if model.kind is ModelKind.package:
        from runner.models.package import write_package_model

        write_package_model(model, destination, cache)
    elif model.kind is ModelKind.generated:
        from runner.models.generated import write_generated_model

        write_generated_model(model, destination)
    else:
        raise UsageError(f"a model of kind {model.kind.value} is not made")
