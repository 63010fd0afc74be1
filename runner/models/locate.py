"""Finds models that are files already: local directories and hub repositories."""

import json
from pathlib import Path
from typing import Any

from runner.config.model import Model, ModelKind
from runner.errors import StageError, UsageError

# No pickles: weights are taken from safetensors alone.
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "tokenizer*", "*.txt"]
_CODE = ["*.py"]
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

    patterns = _WANTED + (_CODE if model.trust_remote_code else [])
    try:
        directory = snapshot_download(
            str(model.hub_id),
            revision=model.revision,
            allow_patterns=patterns,
            ignore_patterns=_UNWANTED,
        )
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
    path = Path(directory)
    if not any(path.glob("*.safetensors")):
        raise StageError(f"{model.hub_id} has no safetensors weights; pickled ones are not read")
    return path


def light_config(model: Model) -> dict[str, Any] | None:
    """Content of the model's config.json if it is on this machine already, without torch.

    Raises:
        UsageError: A local directory is not a model that can be used, or ``hub_id`` no name.
    """
    path: Path | None = None
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
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    return content


def _no_hub_name(model: Model) -> UsageError:
    return UsageError(f"model.hub_id={model.hub_id} is not of the form owner/name")


def _check_directory(model: Model) -> Path:
    directory = Path(str(model.path)).expanduser()
    if not directory.is_dir():
        raise UsageError(f"model.path={model.path} is not a directory")
    if not (directory / "config.json").is_file():
        raise UsageError(f"model.path={model.path} has no config.json; it is no Hugging Face model")
    if not any(directory.glob("*.safetensors")):
        pickled = any(directory.glob("*.bin"))
        why = "has only pickled weights, which can run code" if pickled else "has no weights"
        raise UsageError(
            f"model.path={model.path} {why}; save it as safetensors: "
            "model.save_pretrained(directory)"
        )
    return directory.resolve()
