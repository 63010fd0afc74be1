"""Finds models that are files already: local directories and hub repositories."""

import json
from pathlib import Path
from typing import Any

from runner.config.model import Model, ModelKind
from runner.errors import StageError, UsageError
from runner.models.code import code_complaint
from runner.models.weights import complaint

# No pickles: weights are taken from safetensors alone.
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "tokenizer*", "vocab*", "merges*"]
_WANTED += ["*.txt", "*.tiktoken"]
_CODE = ["*.py"]
_TELLING = ["config.json", "tokenizer_config.json"]
"""What says whether a model needs code of its own."""
# Some repositories hold their weights a second time, in Meta's or Mistral's own layout.
_UNWANTED = ["consolidated*", "original/*", "onnx/*"]


def locate(model: Model) -> Path:
    """Directory of a local model, or of a hub model after downloading what is missing.

    Raises:
        UsageError: A local directory is not a model that can be used, or ``hub_id`` no name.
        StageError: A hub model cannot be had.
    """
    if model.kind is ModelKind.local:
        return _check_directory(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(
                str(model.hub_id),
                revision=model.revision,
                allow_patterns=patterns,
                ignore_patterns=_UNWANTED,
            )
        )

    try:
        _check_code(fetch(_TELLING), model)
        path = fetch(_WANTED + (_CODE if model.trust_remote_code else []))
    except HFValidationError:
        raise _no_hub_name(model) from None
    except GatedRepoError:
        raise StageError(
            f"{model.hub_id} is gated: accept its licence on the hub and set HF_TOKEN"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise StageError(
            f"the hub has no {model.hub_id} at {model.revision}: check model.hub_id and "
            "model.revision, or set HF_TOKEN if it is private"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise StageError(
            f"{model.hub_id} cannot be fetched from the hub ({type(error).__name__}); check the "
            "network, or use a copy with model=local model.path=/its/directory"
        ) from None
    if found := complaint(path):
        raise StageError(f"{model.hub_id} {found}")
    _check_code(path, model)
    return path


def light_config(model: Model) -> dict[str, Any] | None:
    """Content of the model's config.json if it is on this machine already, without torch.

    Of a generated model it is what is said of it; the rest is transformers' defaults.

    Raises:
        UsageError: A local directory is not a model that can be used, or ``hub_id`` no name.
    """
    path: Path | None = None
    if model.kind is ModelKind.generated:
        return dict(model.config) or None
    if model.kind is ModelKind.local:
        path = _check_directory(model) / "config.json"
    elif model.kind is ModelKind.hub:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        hub_id, revision = str(model.hub_id), model.revision
        try:
            cached = try_to_load_from_cache(hub_id, "config.json", revision=revision)
        except HFValidationError:
            raise _no_hub_name(model) from None
        path = Path(cached) if isinstance(cached, str) else None
    if path is None:
        return None
    return _read_config(path)


def code_refusal(model: Model) -> str | None:
    """Why a model's classes cannot be had, by what of it is on this machine already.

    Raises:
        UsageError: A local directory is not a model that can be used, or ``hub_id`` no name.
    """
    if model.kind not in (ModelKind.local, ModelKind.hub):
        return None
    config = light_config(model)
    if config is None:
        return None
    if model.kind is ModelKind.local:
        directory = _check_directory(model)
    else:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(str(model.hub_id), "config.json", revision=model.revision)
        directory = Path(str(found)).parent
    refusal = code_complaint(directory, config, trusted=model.trust_remote_code)
    return f"{_named(model)} {refusal}" if refusal else None


def _check_code(directory: Path, model: Model) -> None:
    file = directory / "config.json"
    if not file.is_file():
        raise StageError(f"{_named(model)} has no config.json; it is no Hugging Face model")
    config = _read_config(file)
    if refusal := code_complaint(directory, config, trusted=model.trust_remote_code):
        raise StageError(f"{_named(model)} {refusal}")


def _named(model: Model) -> str:
    if model.kind is ModelKind.local:
        return f"model.path={model.path}"
    return str(model.hub_id)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no JSON object")
    return content


def _no_hub_name(model: Model) -> UsageError:
    return UsageError(f"model.hub_id={model.hub_id} is not of the form owner/name")


def _check_directory(model: Model) -> Path:
    directory = Path(str(model.path)).expanduser()
    if not directory.is_dir():
        raise UsageError(f"model.path={model.path} is not a directory")
    found = complaint(directory)
    # An adapter has no config.json, and is to be called what it is.
    if not (directory / "config.json").is_file() and "adapter" not in (found or ""):
        raise UsageError(f"model.path={model.path} has no config.json; it is no Hugging Face model")
    if found:
        raise UsageError(f"model.path={model.path} {found}")
    return directory.resolve()
